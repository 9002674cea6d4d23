import type { IKeyValue } from 'etcd3';
import { DatastoreError } from '../errors.js';
import { EtcdRefusal } from './etcd-link.js';
import type { EtcdLink } from './etcd-link.js';
import { entryOf, rangeOf } from './etcd-wire.js';
import { eraOf, etcdRevisionOf, revisionIn } from './revision.js';
import type { Entry, Listing, Watcher } from './store.js';

const PAGE_KEYS = 1_000;
/** etcd's word for the newest revision. */
const NOW = '0';
/** How often a list starts over because its revision was compacted meanwhile, or etcd went back. */
const FRESH_STARTS = 3;

/** See {@link Watcher.digest}. */
type Digest = NonNullable<Watcher['digest']>;

/**
 * All keys that begin with `prefix`, at one revision: one round trip per page of 1,000 keys, or of fewer where
 * that many are more bytes than we accept in one answer. Each page has the time of one call.
 *
 * @param digest makes a value shorter as soon as it is read
 * @throws DatastoreError
 */
export async function listPrefix(link: EtcdLink, prefix: string, digest?: Digest): Promise<Listing> {
  for (let start = 1; ; start++) {
    try {
      return await listAtOneRevision(link, prefix, digest);
    } catch (error) {
      const gone =
        error instanceof EraEnded || (error instanceof EtcdRefusal && error.failure.kind === 'compacted');
      if (!gone || start === FRESH_STARTS) throw error;
    }
  }
}

class EraEnded extends DatastoreError {}

async function listAtOneRevision(link: EtcdLink, prefix: string, digest?: Digest): Promise<Listing> {
  const entries: Entry[] = [];
  let revision = NOW;
  for await (const page of pagesOf(link, prefix)) {
    for (const entry of page.entries)
      entries.push(digest ? { ...entry, value: digest(entry.key, entry.value) } : entry);
    revision = page.revision;
  }
  return { entries, revision };
}

/**
 * The pages of {@link listPrefix} one by one, as of a revision; there is always a first one.
 *
 * @throws DatastoreError, also where etcd has compacted the revision
 */
export async function* pagesOf(link: EtcdLink, prefix: string, at = NOW): AsyncGenerator<Listing> {
  const { key: first, range_end } = rangeOf(prefix);
  let key = first;
  let limit = PAGE_KEYS;
  // All later pages ask for the first one's revision.
  let revision = etcdRevisionOf(at);
  let era = at === NOW ? undefined : eraOf(at);
  const ask = () => {
    const request = { key, range_end, limit, revision };
    return link.call('range', () => request);
  };
  // The next page is on its way while this one is looked at: of a large prefix each takes etcd and us some milliseconds.
  let ahead: ReturnType<typeof ask> | undefined;
  for (;;) {
    try {
      const answer = await (ahead ?? ask());
      ahead = undefined;
      const page = answer.response;
      const now = (era ??= answer.era);
      if (answer.era !== now) throw new EraEnded('etcd went back to an earlier state while it was read');
      if (revision === NOW) revision = page.header.revision;
      const last = page.more ? page.kvs.at(-1) : undefined;
      if (last) {
        key = after(last);
        ahead = ask();
        // Whoever wants no more pages does not hear how this one fails.
        ahead.catch(() => undefined);
      }
      yield { entries: page.kvs.map(kv => entryOf(kv, now)), revision: revisionIn(now, revision) };
      if (!last) return;
    } catch (error) {
      ahead = undefined;
      const tooLarge = error instanceof EtcdRefusal && error.failure.kind === 'too-large';
      if (!tooLarge || limit === 1) throw error;
      limit = Math.ceil(limit / 2);
    }
  }
}

/** The smallest key after this one, from its bytes: a key that is no UTF-8 must not send us round in circles. */
function after(kv: IKeyValue): Buffer {
  return Buffer.concat([kv.key, Buffer.of(0)]);
}
