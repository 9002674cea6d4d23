import { environmentOf, daemonOn } from './processes.js';
import type { Environment } from '../setting-kinds.js';

/** Names of settings, as a daemon's environment has them beside much else. */
const SETTING =
  /^((CALICO|ETCD)_[A-Z0-9_]+|DATASTORE_TYPE|NODENAME|IP6?|IP6?_AUTODETECTION_METHOD|DOCKER_HOST)$/;

/**
 * The settings to look with: what is set here, else what the running daemon has, since who asks the doctor seldom has the
 * daemon's environment. `from`: its process, where anything is from there.
 *
 * @param socketDirOf where the sockets are, by settings
 */
export function daemonSettings(
  env: Environment,
  socketDirOf: (env: Environment) => string,
): { readonly env: Environment; readonly from: number | undefined } {
  const pid = daemonOn(`${socketDirOf(env)}/calico.sock`);
  const theirs = pid === undefined ? undefined : environmentOf(pid);
  if (!theirs) return { env, from: undefined };
  return { ...mergeSettings(env, theirs, pid) };
}

/** Exported for its test. The host name is the daemon's, where its environment has one: its node's name may be that. */
export function mergeSettings(
  own: Environment,
  theirs: Environment,
  pid: number | undefined,
): { readonly env: Environment; readonly from: number | undefined } {
  const added = Object.entries(theirs).filter(([name]) => SETTING.test(name) && (own[name] ?? '') === '');
  const env = { ...own, HOSTNAME: theirs.HOSTNAME, ...Object.fromEntries(added) };
  return { env, from: added.length > 0 ? pid : undefined };
}
