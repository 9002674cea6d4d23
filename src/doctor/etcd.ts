import type { EtcdOptions } from '../datastore/etcd-options.js';
import type { Store } from '../datastore/store.js';
import { inTime, withDeadline } from '../deadline.js';
import { DatastoreError, reason } from '../errors.js';
import { askMembers } from './etcd-http.js';
import type { MemberFacts } from './etcd-http.js';
import { ok, problem, warning } from './finding.js';
import type { Check, Verdict } from './finding.js';
import type { Subject } from './subject.js';

/** The oldest that it is shown with. */
const OLDEST = [3, 4] as const;
/** Milliseconds that clocks may differ: etcd tells whole seconds only. */
const CLOCK_TOLERANCE = 2_500;
/** Milliseconds that an answer of a healthy etcd may take. */
const SLOW = 100;
/** Milliseconds after which the datastore is to say why it has no answer, and after which it is not waited for: packets may
 *  lead nowhere, and the check itself is given up a second later. */
const PATIENCE = 3_000;
const SILENT = 4_000;
const SILENCE = `etcd does not answer within ${SILENT / 1_000} s`;

/** etcd answers by the daemon's own way, and each of its members is well. */
export const etcd: Check<Subject> = {
  name: 'etcd',
  async look({ etcd, store }) {
    let options: EtcdOptions;
    try {
      options = etcd();
    } catch (error) {
      return [problem(reason(error), 'start the daemon; or set ETCD_ENDPOINTS as the daemon has it')];
    }
    const [answer, members] = await Promise.all([ask(store()), askMembers(options)]);
    return [answer, ...members.map(member => judgeMember(member, members))];
  },
};

/** Asks as the daemon does: with its user, and whichever member answers. Two round trips. */
async function ask(store: Store): Promise<Verdict> {
  try {
    const started = performance.now();
    const ping = () =>
      inTime(
        withDeadline(PATIENCE, () => store.ping()),
        SILENT,
        () => new DatastoreError(SILENCE),
      );
    await ping();
    const answered = performance.now();
    await ping();
    return judgeLatency(performance.now() - answered, answered - started);
  } catch (error) {
    return problem(
      reason(error),
      'start etcd; see that ETCD_ENDPOINTS, its TLS files and its user are right, and that no firewall is between',
    );
  }
}

/** Milliseconds: of an answer, and of the first, which has to connect. */
export function judgeLatency(milliseconds: number, first: number): Verdict {
  const text = `etcd answers within ${milliseconds.toFixed(1)} ms (${first.toFixed(0)} ms with the connection)`;
  if (milliseconds <= SLOW) return ok(text);
  return warning(`${text}: every container waits for a few of these`, 'give etcd a faster disk or network');
}

/** `all`: of its cluster; while most of them answer, the cluster works. */
export function judgeMember(
  { endpoint, failure, version, health }: MemberFacts,
  all: readonly MemberFacts[],
): Verdict {
  if (failure !== undefined) {
    const isMajority = all.filter(member => member.failure === undefined).length * 2 > all.length;
    return (isMajority ? warning : problem)(
      `the etcd member ${endpoint} does not answer: ${failure}`,
      'start it, or take it out of ETCD_ENDPOINTS; the others do its work, as long as they are a majority',
    );
  }
  if (health !== true)
    return problem(
      `the etcd member ${endpoint} is not healthy: ${health ?? 'it does not say why'}`,
      'look at `etcdctl endpoint status` and `etcdctl alarm list`: no leader, or its database is full',
    );
  if (version === undefined)
    return warning(`${endpoint} does not tell its version`, `use etcd ${OLDEST.join('.')} or later`);
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    return problem(`etcd ${version} at ${endpoint} is too old`, `use etcd ${OLDEST.join('.')} or later`);
  return ok(`etcd ${version} at ${endpoint} is healthy`);
}

/** This host's clock, compared with those of etcd's members. */
export const clock: Check<Subject> = {
  name: 'clock',
  look: async ({ etcd }) => [judgeClock(await askMembers(etcd()))],
};

export function judgeClock(members: readonly MemberFacts[]): Verdict {
  const known = members.flatMap(({ endpoint, clock }) => (clock ? [{ endpoint, ...clock }] : []));
  if (known.length === 0) return warning('no member of etcd tells its time', 'see etcd');
  const differences = known.map(({ endpoint, theirs, ours }) => ({
    endpoint,
    // It tells the second that has begun.
    difference: ours >= theirs && ours < theirs + 1_000 ? 0 : ours - theirs,
  }));
  const [worst] = differences.toSorted((a, b) => Math.abs(b.difference) - Math.abs(a.difference));
  if (!worst || Math.abs(worst.difference) <= CLOCK_TOLERANCE)
    return ok("this host's clock agrees with etcd's to a few seconds");
  const seconds = Math.round(Math.abs(worst.difference) / 1_000);
  return warning(
    `this host's clock is ${seconds} s ${worst.difference > 0 ? 'ahead of' : 'behind'} that of ${worst.endpoint}: certificates may seem invalid, and logs of hosts cannot be compared`,
    'synchronise the clocks (chrony, systemd-timesyncd)',
  );
}
