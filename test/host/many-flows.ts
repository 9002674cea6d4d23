import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { readFileSync, writeFileSync } from 'node:fs';
import { KernelThread } from '../../src/host/kernel-thread.js';
import { RtNetlink } from '../../src/host/rtnetlink.js';

/** Runs in a network namespace of its own (kernel-thread.test.ts): makes flows of an address, and has them forgotten. */
const ADDRESS = '10.65.0.1';
const PORTS = 50_000;

execFileSync('ip', ['link', 'set', 'lo', 'up']);
execFileSync('ip', ['addr', 'add', `${ADDRESS}/32`, 'dev', 'lo']);
writeFileSync('/proc/sys/net/netfilter/nf_conntrack_timestamp', '1');
const tracking = 'chain inet t o { type filter hook output priority 0; }';
execFileSync('nft', [`add table inet t; add ${tracking}; add rule inet t o ct state new`]);
const socket = createSocket('udp4');
socket.on('error', () => undefined);
await new Promise<void>(resolve => socket.bind(7_000, ADDRESS, resolve));
// As in the daemon: when the only thread that uses it ends, the netlink package goes with it, before it is done.
const netlink = new RtNetlink();
await netlink.links();

async function make(flows: number): Promise<number> {
  for (let n = 0; n < flows; n += 1) {
    socket.send('x', 1_024 + (n % PORTS), `127.0.1.${1 + Math.floor(n / PORTS)}`, () => undefined);
    if (n % 500 === 0) await new Promise(resolve => setImmediate(resolve));
  }
  await new Promise(resolve => setTimeout(resolve, 100));
  return count();
}

function count(): number {
  return Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_count', 'utf8'));
}

const thread = new KernelThread();
const many = await make(PORTS);
await thread.run({ forgetFlows: [ADDRESS] });
const left = count();
const more = await make(10_000);
// All that began since 1970, as after somebody flushed all tables.
const underWay = thread.run({ forgetFlows: [ADDRESS], begunSince: 0 });
// It has begun to list them.
await new Promise(resolve => setTimeout(resolve, 50));
await thread.close();
await underWay;
const afterwards = await thread.run({ deleteLink: 'none' }).catch((error: Error) => error.message);
process.stdout.write(JSON.stringify({ many, left, more, leftAtTheEnd: count(), afterwards }));
process.exit(0);
