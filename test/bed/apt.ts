import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../src/setup/command.mjs';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * Debian's archive in a suite of our choice, by the mirror this machine is set to, with an apt state of its own:
 * nothing in /etc/apt, dpkg's database or the machine's package lists changes.
 */
export class Archive {
  private updated = false;

  constructor(
    /** For example `trixie`. */
    readonly suite: string,
    private readonly folder: string,
  ) {}

  /** Downloads packages, without what they depend on, and unpacks them over each other into `target`. */
  async unpack(packages: readonly string[], target: string): Promise<void> {
    await this.update();
    const debs = join(this.folder, 'debs');
    mkdirSync(debs, { recursive: true });
    mkdirSync(target, { recursive: true });
    await run(['apt-get', ...this.options(), '-qq', 'download', ...packages], {
      cwd: debs,
      timeout: 600_000,
    });
    for (const deb of readdirSync(debs).filter(name => name.endsWith('.deb')))
      await run(['dpkg-deb', '--extract', join(debs, deb), target]);
  }

  private async update(): Promise<void> {
    if (this.updated) return;
    for (const name of ['lists/partial', 'cache/archives/partial', 'state'])
      mkdirSync(join(this.folder, name), { recursive: true });
    writeFileSync(join(this.folder, 'status'), '');
    const source = `deb [signed-by=${KEYRING}] ${debianMirror()} ${this.suite} main\n`;
    writeFileSync(join(this.folder, 'sources.list'), source);
    await run(['apt-get', ...this.options(), '-qq', 'update', '-o', 'APT::Update::Error-Mode=any'], {
      timeout: 300_000,
    });
    this.updated = true;
  }

  private options(): string[] {
    const settings = {
      'Dir::State': join(this.folder, 'state'),
      'Dir::State::Lists': join(this.folder, 'lists'),
      'Dir::State::status': join(this.folder, 'status'),
      'Dir::Cache': join(this.folder, 'cache'),
      'Dir::Etc::SourceList': join(this.folder, 'sources.list'),
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::Etc::Preferences': '/dev/null',
      'Dir::Etc::PreferencesParts': '/dev/null',
      // The download goes to a folder that apt's unprivileged user may not write.
      'APT::Sandbox::User': 'root',
      'Acquire::Languages': 'none',
    };
    return Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  }
}

/** The suite this machine is installed from, for example `bookworm`. */
export function ownSuite(): string {
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  if (codename === undefined)
    throw new Error('/etc/os-release names no VERSION_CODENAME: not a Debian release');
  return codename;
}

/** The address of the Debian archive that the machine's own apt sources use for its own suite. */
function debianMirror(): string {
  const suite = ownSuite();
  const found = aptSources().find(
    source => source.suites.includes(suite) && source.components.includes('main'),
  );
  if (found === undefined) throw new Error(`no apt source of ${suite} main in /etc/apt`);
  return found.uri;
}

interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** Both notations: one-line `.list` and deb822 `.sources`. */
function aptSources(): AptSource[] {
  const parts = '/etc/apt/sources.list.d';
  const files = [
    '/etc/apt/sources.list',
    ...(existsSync(parts) ? readdirSync(parts) : []).map(f => join(parts, f)),
  ];
  return files
    .filter(file => existsSync(file))
    .flatMap(file => {
      const text = readFileSync(file, 'utf8').replace(/^\s*#.*\n?/gm, '');
      return file.endsWith('.sources') ? stanzas(text) : lines(text);
    });
}

function stanzas(text: string): AptSource[] {
  return text.split(/\n\s*\n/).flatMap(stanza => {
    const field = (name: string) =>
      new RegExp(`^${name}:\\s*(.*(?:\\n[ \\t].*)*)`, 'im').exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];
    const [suites, components] = [field('Suites'), field('Components')];
    return field('Types').includes('deb') ? field('URIs').map(uri => ({ uri, suites, components })) : [];
  });
}

function lines(text: string): AptSource[] {
  return text.split('\n').flatMap(line => {
    const words = line
      .replace(/\[[^\]]*\]/, '')
      .trim()
      .split(/\s+/);
    const [type, uri, suite, ...components] = words;
    return type === 'deb' && uri !== undefined && suite !== undefined
      ? [{ uri, suites: [suite], components }]
      : [];
  });
}
