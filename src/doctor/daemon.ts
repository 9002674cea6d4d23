import { request } from 'node:http';
import { textOf } from '../docker/call.js';
import type { ListenAddress } from '../metrics/server.js';
import { aliveKey } from '../datastore/keys.js';
import { reason } from '../errors.js';
import { parsePresence } from '../model/presence.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

const TIMEOUT = 3_000;

/** The daemon runs, is the version it should be, and says itself that it can work. One round trip. */
export const daemon: Check<Subject> = {
  name: 'daemon',
  async look({ config, daemon, store, version }) {
    if (daemon === undefined)
      return [
        problem(
          'no daemon runs on this host',
          'start it: calico-libnetwork serve; containers keep their network meanwhile',
        ),
      ];
    const entry = await store()
      .get(aliveKey(config.nodeName))
      .catch(() => undefined);
    const running = entry && parsePresence(entry.value)?.version;
    return [
      judgeDaemon(daemon, running, version),
      ...(config.metricsAddress ? [await askReadiness(config.metricsAddress)] : []),
    ];
  },
};

/** `running`: the version that the daemon tells; undefined where it tells none. */
export function judgeDaemon(pid: number, running: string | undefined, version: string): Verdict {
  if (running !== undefined && running !== version)
    return warning(
      `the daemon (process ${pid}) is of version ${running}, this program of ${version}`,
      'restart the daemon, so that it is what is installed; containers keep their network',
    );
  return ok(`the daemon runs (process ${pid})`);
}

/** What `/ready` says. Never rejects. */
export async function askReadiness({ host, port }: ListenAddress): Promise<Verdict> {
  const where = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  try {
    const { status, text } = await get(where, port);
    return judgeReadiness(status, text);
  } catch (error) {
    return problem(
      `the daemon does not answer at CALICO_LIBNETWORK_METRICS_ADDRESS (${reason(error)})`,
      'see that nothing else has the port, and that the daemon was started with this setting',
    );
  }
}

export function judgeReadiness(status: number, text: string): Verdict {
  if (status === 200) return ok('the daemon says that it is ready');
  return problem(
    `the daemon says that it is not ready: ${text.trim().replaceAll('\n', '; ')}`,
    "look at the daemon's log",
  );
}

function get(host: string, port: number): Promise<{ status: number; text: string }> {
  const signal = AbortSignal.timeout(TIMEOUT);
  return new Promise((resolve, reject) => {
    const call = request({ host, port, path: '/ready', agent: false, signal }, answer => {
      textOf(answer).then(text => resolve({ status: answer.statusCode ?? 0, text }), reject);
    });
    call.on('error', reject);
    call.end();
  });
}
