import { expect } from 'vitest';
import { LineProcess } from '../differential/line-process.js';
import type { Probe } from '../differential/prober-program.js';
import type { Host } from '../bed/host.js';
import type { Machine } from '../bed/machine.js';
import { poll } from '../bed/poll.js';
import { addressOf } from './calico-host.js';
import { inspected } from './matrix.js';

/** A packet between two parties, by their names. */
export interface Ask {
  readonly from: string;
  readonly to: string;
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  /** 0 for ICMP. */
  readonly port: number;
}

interface Asked {
  readonly ask: Ask;
  readonly outcome: string;
}

interface Party {
  readonly program: LineProcess;
  readonly address: string;
}

const PROGRAM = 'test/differential/prober-program.ts';
/** Milliseconds in which a packet that passes is answered. */
const WAIT = 300;
/** The same on a busy machine. */
const PATIENCE = 3_000;

/**
 * Containers, hosts and the outside world, each with a program that goes on running in its network, sends packets and
 * answers them: all packets between all of them take less than a second.
 */
export class Parties {
  private readonly all = new Map<string, Party>();
  private next = 1;

  constructor(private readonly ports: readonly number[]) {}

  /** A running container of a host, with one network. */
  async container(host: Host, name: string): Promise<void> {
    const { State: state } = await inspected(host, 'inspect', name);
    const pid = String((state as { Pid?: number }).Pid);
    await this.add(name, host.path(`/proc/${pid}/ns/net`), await addressOf(host, name));
  }

  /** A host, or what is outside of all hosts. */
  async machine(name: string, machine: Machine, address: string): Promise<void> {
    await this.add(name, `/proc/${machine.pid}/ns/net`, address);
  }

  addressOf(name: string): string {
    return this.party(name).address;
  }

  /** The program of a party, for what is not said here. */
  program(name: string): LineProcess {
    return this.party(name).program;
  }

  /** Ends a party's program, or all. */
  async end(...names: readonly string[]): Promise<void> {
    for (const name of names.length > 0 ? names : [...this.all.keys()]) {
      await this.all.get(name)?.program.end();
      this.all.delete(name);
    }
  }

  /** A packet as the program takes it, from a port that none had before. */
  probe({ from, to, protocol, port }: Ask): Probe {
    const number = this.next++;
    return {
      ...{ number, protocol, source: this.addressOf(from), sourcePort: 10_000 + ((number * 7) % 40_000) },
      ...{ destination: this.addressOf(to), destinationPort: port },
    };
  }

  /** Those of the packets that are not what `allowed` says, in words. One that should be answered and is not is sent
   *  again, with patience: a busy machine is no policy. */
  async wrong(asks: readonly Ask[], allowed: (ask: Ask) => boolean): Promise<string[]> {
    const isWrong = ({ ask, outcome }: Asked) => outcome !== (allowed(ask) ? 'answer' : 'silence');
    const first = (await this.ask(asks, WAIT)).filter(isWrong);
    const isSilent = ({ outcome }: Asked) => outcome === 'silence';
    const again = await this.ask(
      first.filter(isSilent).map(({ ask }) => ask),
      PATIENCE,
    );
    const left = [...first.filter(each => !isSilent(each)), ...again.filter(isWrong)];
    return left.map(
      ({ ask: { from, to, protocol, port }, outcome }) => `${from} to ${to} ${protocol}/${port}: ${outcome}`,
    );
  }

  private async ask(asks: readonly Ask[], wait: number): Promise<Asked[]> {
    const found = await Promise.all(
      [...this.all].map(async ([name, { program }]) => {
        const own = asks.filter(({ from }) => from === name);
        if (own.length === 0) return [];
        const outcomes = await program.call(
          'probe',
          own.map(ask => this.probe(ask)),
          wait,
        );
        return own.map((ask, index) => ({
          ask,
          outcome: Array.isArray(outcomes) ? String(outcomes[index]) : 'nothing',
        }));
      }),
    );
    return found.flat();
  }

  /** Expects that packets are what `allowed` says; what was changed a moment ago may need `within` milliseconds. */
  async expect(asks: readonly Ask[], allowed: (ask: Ask) => boolean, within = 3_000): Promise<void> {
    let wrong: string[] = [];
    const isRight = async () => {
      wrong = await this.wrong(asks, allowed);
      return wrong.length === 0;
    };
    await poll('the right packets', within, isRight).catch(() => undefined);
    expect(wrong).toEqual([]);
    // Not just while something was being put in place.
    expect(await this.wrong(asks, allowed)).toEqual([]);
  }

  private async add(name: string, space: string, address: string): Promise<void> {
    await this.all.get(name)?.program.end();
    const program = new LineProcess(['nsenter', `--net=${space}`, '--'], PROGRAM);
    await program.call('serve', this.ports, [address]);
    this.all.set(name, { program, address });
  }

  private party(name: string): Party {
    const found = this.all.get(name);
    if (found === undefined) throw new Error(`${name} is no party`);
    return found;
  }
}

/** All packets of these kinds between any two of the names. */
export function everyPair(
  names: readonly string[],
  kinds: readonly (readonly ['tcp' | 'udp' | 'icmp', number])[],
): Ask[] {
  return names.flatMap(from =>
    names.flatMap(to => (from === to ? [] : kinds.map(([protocol, port]) => ({ from, to, protocol, port })))),
  );
}
