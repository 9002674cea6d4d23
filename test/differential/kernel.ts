import { LineProcess } from './line-process.js';
import type { Packet } from './packets.js';
import { Paper, changes } from './paper.js';
import type { Stage } from './stage.js';
import type { Subject } from './subject.js';
import type { World } from './world.js';

/** The daemon's whole way from the datastore's text to the kernel, judged by real packets; explained by the evaluator. */
export class Kernel implements Subject {
  private enforcer: LineProcess | undefined;
  private world: World | undefined;
  private readonly paper = new Paper();
  /** Milliseconds from a change of the datastore to its enforcement, of all but the first after a start. */
  readonly delays: number[] = [];

  constructor(private readonly stage: Stage) {}

  /** Another daemon, which finds in the kernel what the one before left. */
  async restart(): Promise<void> {
    await this.end();
    await this.paper.restart();
    this.world = undefined;
  }

  async become(world: World): Promise<void> {
    if (this.world?.fromHost !== world.fromHost) await this.restart();
    if (this.enforcer === undefined) {
      const enter = ['nsenter', '-t', String(this.stage.host.pid), '-n', '-m'];
      this.enforcer = new LineProcess(enter, 'test/differential/enforcer-program.ts');
      await this.enforcer.call('begin', world.fromHost);
    }
    const list = changes(this.world, world).map(([key, text]) => [key, text ?? null]);
    await this.stage.publish(world);
    const took = Number(await this.enforcer.call('change', list));
    if (this.world !== undefined) this.delays.push(took);
    this.world = world;
    await this.paper.become(world);
  }

  async judge(packets: readonly Packet[], expected: readonly boolean[]): Promise<readonly string[]> {
    const outcomes = await this.stage.send(packets, expected);
    return packets.map((packet, index) => {
      const [outcome, explained] = [outcomes[index] ?? 'dropped', this.paper.evaluation(packet).verdict];
      const says = explained === 'allow' ? 'passed' : 'dropped';
      return outcome === says ? outcome : `${outcome}, and explained as ${says}`;
    });
  }

  async explain(packet: Packet): Promise<string> {
    const table = await this.stage.host.run('nft list ruleset').catch(String);
    return `${await this.paper.explain(packet)}\n${table}`;
  }

  async end(): Promise<void> {
    await this.enforcer?.end();
    this.enforcer = undefined;
  }
}
