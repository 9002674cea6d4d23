import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config.js';
import type { Store } from '../../src/datastore/store.js';
import { etcd } from '../../src/doctor/etcd.js';
import type { Subject } from '../../src/doctor/subject.js';
import { RtNetlink } from '../../src/host/rtnetlink.js';
import { MemoryStore } from '../fakes/memory-store.js';

/** Whose packets lead nowhere, as on a host that is cut off. */
class SilentStore extends MemoryStore {
  override ping(): Promise<void> {
    return new Promise(() => undefined);
  }
}

test('an etcd that is out of reach is named, before the doctor loses patience', async () => {
  const netlink = new RtNetlink();
  const store: Store = new SilentStore();
  const unused = () => Promise.reject(new Error('not asked'));
  const subject: Subject = {
    config: loadConfig({}),
    version: '1.0.0',
    daemon: undefined,
    dockerd: undefined,
    docker: unused,
    etcd: () => ({ endpoints: ['http://127.0.0.1:1'] }),
    store: () => store,
    pools: unused,
    nodes: unused,
    netlink,
    links: unused,
  };
  const started = Date.now();
  const found = await etcd.look(subject);
  netlink.close();
  expect(Date.now() - started).toBeLessThan(4_500);
  expect(found).toMatchObject([
    {
      level: 'problem',
      text: 'etcd does not answer within 4 s',
      remedy: expect.stringContaining('ETCD_ENDPOINTS'),
    },
    { level: 'problem', text: expect.stringContaining('http://127.0.0.1:1') },
  ]);
});
