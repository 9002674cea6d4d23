import type { Config } from '../config.js';
import { ok, problem } from './finding.js';
import type { Check, Verdict } from './finding.js';
import { commandLine, processes, shortName } from './processes.js';
import type { Subject } from './subject.js';

/** Just one of the two programs the host: a Felix, or the daemon. */
export const felix: Check<Subject> = {
  name: 'Felix',
  look: async ({ config }) => [
    judgeFelix(
      config.dataplane,
      processes().find(pid => isFelix(shortName(pid), commandLine(pid))),
    ),
  ],
};

/** By itself, or in calico/node. */
export function isFelix(name: string, words: readonly string[]): boolean {
  return name === 'calico-felix' || (name === 'calico-node' && words.some(word => /^--?felix$/.test(word)));
}

/** `pid`: of a Felix that runs here. */
export function judgeFelix(dataplane: Config['dataplane'], pid: number | undefined): Verdict {
  if (dataplane === 'native' && pid !== undefined)
    return problem(
      `a Felix runs here (process ${pid}), and the daemon programs the host as well: each undoes what the other does`,
      'set CALICO_LIBNETWORK_DATAPLANE=felix for the daemon, or stop Felix',
    );
  if (dataplane === 'felix' && pid === undefined)
    return problem(
      'CALICO_LIBNETWORK_DATAPLANE is felix, but no Felix runs here: nobody makes routes',
      'start Felix (calico/node), or unset CALICO_LIBNETWORK_DATAPLANE',
    );
  return ok(
    pid === undefined
      ? 'none runs here; the daemon programs the host'
      : `it runs (process ${pid}) and programs the host`,
  );
}
