import type { IKeyValue } from 'etcd3';
import { DatastoreError } from '../errors.js';
import { EtcdRefusal } from './etcd-link.js';
import type { EtcdLink } from './etcd-link.js';
import { entryOf, rangeOf } from './etcd-wire.js';
import { revisionIn } from './revision.js';
import type { Entry, Listing } from './store.js';

const PAGE_KEYS = 1_000;
/** How often a list starts over because its revision was compacted meanwhile, or etcd went back. */
const FRESH_STARTS = 3;

/**
 * All keys that begin with `prefix`, at one revision: one round trip per page of 1,000 keys, or of fewer where
 * that many are more bytes than we accept in one answer. Each page has the time of one call.
 *
 * @throws DatastoreError
 */
export async function listPrefix(link: EtcdLink, prefix: string): Promise<Listing> {
  for (let start = 1; ; start++) {
    try {
      return await listAtOneRevision(link, prefix);
    } catch (error) {
      const gone =
        error instanceof EraEnded || (error instanceof EtcdRefusal && error.failure.kind === 'compacted');
      if (!gone || start === FRESH_STARTS) throw error;
    }
  }
}

class EraEnded extends DatastoreError {}

async function listAtOneRevision(link: EtcdLink, prefix: string): Promise<Listing> {
  const entries: Entry[] = [];
  const { key: first, range_end } = rangeOf(prefix);
  let key = first;
  let limit = PAGE_KEYS;
  let revision = '0'; // etcd's word for "now"; all later pages ask for the first one's revision
  let era: number | undefined;
  for (;;) {
    try {
      const answer = await link.call('range', () => ({ key, range_end, limit, revision }));
      const page = answer.response;
      era ??= answer.era;
      if (era !== answer.era) throw new EraEnded('etcd went back to an earlier state while it was read');
      if (revision === '0') revision = page.header.revision;
      for (const kv of page.kvs) entries.push(entryOf(kv, era));
      const last = page.kvs.at(-1);
      if (!page.more || !last) return { entries, revision: revisionIn(era, revision) };
      key = after(last);
    } catch (error) {
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
