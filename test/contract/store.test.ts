import { describe } from 'vitest';
import { MemoryStore } from '../fakes/memory-store.js';
import { etcdStore, storeContract } from './store.contract.js';

describe('the store in memory', () => {
  storeContract(async () => {
    const store = new MemoryStore();
    return { store, remove: () => store.close() };
  });
});

describe('the store on etcd', () => storeContract(etcdStore));
