import { existsSync, lstatSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { request } from 'node:http';
import type { RequestOptions } from 'node:http';
import { join } from 'node:path';
import { textOf } from '../docker/call.js';
import { objectOrEmpty, parseJson, textList, textOr } from '../model/json.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** The sockets, and what each plugin has to be. */
const PLUGINS = { calico: ['NetworkDriver', 'IpamDriver'], 'calico-ipam': ['IpamDriver'] } as const;
type Plugin = keyof typeof PLUGINS;
const NAMES = ['calico', 'calico-ipam'] as const;
/** Where dockerd looks for sockets, and for files that name other places. */
const SOCKET_FOLDER = '/run/docker/plugins';
const SPEC_FOLDERS = ['/etc/docker/plugins', '/usr/lib/docker/plugins'];
const TIMEOUT = 3_000;
const START = 'start the daemon: calico-libnetwork serve';

/** What is found where a plugin should answer. */
export type Answer =
  | { readonly is: 'missing' | 'no socket' | 'stale' | 'silent' }
  | { readonly is: 'answers'; readonly implements: readonly string[] };

/** The sockets are there, and the daemon answers on them. */
export const sockets: Check<Subject> = {
  name: 'plugin sockets',
  look: ({ config }) =>
    Promise.all(
      NAMES.map(async name => {
        const path = `${config.socketDir}/${name}.sock`;
        return judgeSocket(name, path, await askSocket(path));
      }),
    ),
};

export function judgeSocket(name: Plugin, path: string, answer: Answer): Verdict {
  switch (answer.is) {
    case 'missing':
      return problem(`${path} is missing: dockerd does not find the plugin "${name}"`, START);
    case 'no socket':
      return problem(`${path} is no socket`, `remove it, and ${START}`);
    case 'stale':
      return problem(`${path} is stale: nobody answers, and dockerd waits 15 s for each call`, START);
    case 'silent':
      return problem(`${path} is open, but does not answer`, "look at the daemon's log, and restart it");
    case 'answers': {
      const missing = PLUGINS[name].filter(driver => !answer.implements.includes(driver));
      return missing.length > 0
        ? problem(
            `${path} belongs to another plugin: it is no ${missing.join(', no ')}`,
            `stop that one, and ${START}`,
          )
        : ok(`${path} answers`);
    }
  }
}

/** Asks the plugin behind a socket what it is. Never rejects. */
export async function askSocket(path: string): Promise<Answer> {
  try {
    if (!statSync(path).isSocket()) return { is: 'no socket' };
  } catch {
    // A link to nowhere is there, all the same.
    return { is: isThere(path) ? 'stale' : 'missing' };
  }
  return askPlugin({ socketPath: path });
}

async function askPlugin(target: RequestOptions): Promise<Answer> {
  const signal = AbortSignal.timeout(TIMEOUT);
  try {
    const text = await new Promise<string>((resolve, reject) => {
      const call = request(
        { ...target, method: 'POST', path: '/Plugin.Activate', agent: false, signal },
        answer => void textOf(answer).then(resolve, reject),
      );
      call.on('error', reject);
      call.end();
    });
    return { is: 'answers', implements: textList(objectOrEmpty(parseJson(text)).Implements) };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    return { is: code === 'ECONNREFUSED' || code === 'ENOENT' ? 'stale' : 'silent' };
  }
}

/** dockerd finds the sockets: it looks where they are, in the same file system, and no file leads it elsewhere. */
export const discovery: Check<Subject> = {
  name: 'discovery',
  async look({ config, dockerd }) {
    const specs = readSpecs(SPEC_FOLDERS);
    const dead = await Promise.all(
      specs.map(async ({ file, address }) => judgeSpec(file, address, await askAddress(address))),
    );
    return [
      ...dead,
      judgeView(config.socketDir, specs.length > 0, dockerd, viewOf(config.socketDir, dockerd)),
    ];
  },
};

/** A file of dockerd's that says where one of our plugins is. */
export interface Spec {
  readonly file: string;
  /** `unix:///path` or `tcp://host:port`; '' where it has none. */
  readonly address: string;
}

/** The files that name our plugins, also a folder below, as dockerd reads them. */
export function readSpecs(folders: readonly string[]): Spec[] {
  const names = NAMES.flatMap(name => [`${name}.spec`, `${name}.json`]);
  const candidates = folders.flatMap(folder => [
    ...names.map(name => join(folder, name)),
    ...subfoldersOf(folder).flatMap(sub => names.map(name => join(folder, sub, name))),
  ]);
  return candidates.flatMap(file => {
    if (!existsSync(file)) return [];
    const text = readFileSync(file, 'utf8').trim();
    return [{ file, address: file.endsWith('.json') ? addressIn(text) : text }];
  });
}

export function judgeSpec(file: string, address: string, answer: Answer): Verdict {
  if (answer.is === 'answers') return ok(`${file} leads to ${address}, which answers`);
  return problem(
    `${file} leads dockerd to ${address === '' ? 'no address' : address}, where nobody answers: dockerd waits there`,
    `start what it names, or remove ${file}: dockerd finds sockets in ${SOCKET_FOLDER} by itself`,
  );
}

async function askAddress(address: string): Promise<Answer> {
  if (address.startsWith('unix://')) return askSocket(address.slice('unix://'.length));
  if (!/^(tcp|http):\/\/[^/]+:\d+\/?$/.test(address) || !URL.canParse(address)) return { is: 'missing' };
  const { hostname, port } = new URL(address.replace(/^tcp:/, 'http:'));
  return askPlugin({ host: hostname, port });
}

/** Whether dockerd sees the very socket that we see; undefined where that cannot be told. */
function viewOf(folder: string, dockerd: number | undefined): boolean | undefined {
  const ours = inodeOf(`${folder}/calico.sock`);
  if (dockerd === undefined || ours === undefined) return undefined;
  return inodeOf(`/proc/${dockerd}/root${folder}/calico.sock`) === ours;
}

export function judgeView(
  folder: string,
  hasSpec: boolean,
  dockerd: number | undefined,
  sees: boolean | undefined,
): Verdict {
  const isDefault = folder === SOCKET_FOLDER || folder === `/var${SOCKET_FOLDER}`;
  if (!isDefault && !hasSpec)
    return problem(
      `dockerd looks for sockets in ${SOCKET_FOLDER}, not in ${folder}`,
      `unset CALICO_LIBNETWORK_SOCKET_DIR, or name the sockets in ${SPEC_FOLDERS[0]}/calico.spec`,
    );
  if (sees === false)
    return problem(
      `dockerd (process ${dockerd}) does not see ${folder}/calico.sock: it runs with another file system`,
      `share ${folder} with it: a bind mount where one of the two runs in a container; a Docker from a package instead of a snap`,
    );
  if (dockerd === undefined)
    return warning(
      'no dockerd is seen on this host: whether it finds the plugin cannot be told',
      'run doctor on the host where dockerd runs',
    );
  return ok(sees === undefined ? `dockerd looks in ${folder}` : `dockerd sees ${folder}/calico.sock`);
}

function addressIn(text: string): string {
  try {
    return textOr(objectOrEmpty(parseJson(text)).Addr);
  } catch {
    return '';
  }
}

function subfoldersOf(folder: string): string[] {
  try {
    return readdirSync(folder).filter(name => statSync(join(folder, name)).isDirectory());
  } catch {
    return [];
  }
}

function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return `${dev} ${ino}`;
  } catch {
    return undefined;
  }
}

function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
