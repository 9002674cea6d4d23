/**
 * The port's revisions. etcd's own go back when it is restored from a snapshot, and then name other contents than they
 * did before. The port's never do: each time etcd goes back a new era begins, and a revision says which era it is of.
 *
 * A revision is a decimal number without leading zeros. In era 0, where nearly every daemon spends its life, it is
 * etcd's own; in a later one the era's number and etcd's revision in 19 digits. So a later revision is always a larger
 * number, also across eras.
 */

/** As many as etcd's largest revision has: 2^63 - 1. */
const DIGITS = 19;
/** No key ever has this revision: a compare with it fails. */
const NEVER = '9223372036854775807';

/** The port's revision of etcd's. */
export function revisionIn(era: number, etcdRevision: string): string {
  return era === 0 ? etcdRevision : `${era}${etcdRevision.padStart(DIGITS, '0')}`;
}

/** The era of a revision of the port's. */
export function eraOf(revision: string): number {
  return Number(revision.slice(0, -DIGITS));
}

/** etcd's revision, whatever the era. */
export function etcdRevisionOf(revision: string): string {
  return revision.slice(-DIGITS).replace(/^0+(?=\d)/, '');
}

/**
 * What to compare with in etcd: of another era, one that no key has. By chance a key may have the same number again,
 * with other content.
 */
export function revisionToCompare(era: number, revision: string): string {
  return eraOf(revision) === era ? etcdRevisionOf(revision) : NEVER;
}

/** True where `revision` is later than `than`. Both are too large for a JavaScript number. */
export function isNewer(revision: string, than: string): boolean {
  return revision.length === than.length ? revision > than : revision.length > than.length;
}
