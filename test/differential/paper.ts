import { endpointAt, evaluate } from '../../src/policy/evaluate.js';
import type { Evaluation, Step } from '../../src/policy/evaluate.js';
import type { PolicyEndpoint, PolicyFacts } from '../../src/policy/facts.js';
import type { Packet as JudgedPacket } from '../../src/policy/packet.js';
import { interpret } from '../policy/interpreter.js';
import { Feed } from './feed.js';
import { judgedOf } from './oracle.js';
import { arrivalOf } from './packets.js';
import type { Packet } from './packets.js';
import { NODE, placeOf } from './places.js';
import type { Place } from './places.js';
import { resources } from './resources.js';
import type { Subject } from './subject.js';
import type { World } from './world.js';

/** What is different from one world to the next, key by key; undefined: gone. */
export function changes(before: World | undefined, after: World): [string, string | undefined][] {
  const [old, now] = [before === undefined ? new Map<string, string>() : resources(before), resources(after)];
  return [
    ...[...old.keys()].flatMap(key => (now.has(key) ? [] : [[key, undefined] as [string, undefined]])),
    ...[...now].filter(([key, text]) => old.get(key) !== text),
  ];
}

/**
 * The daemon's resolver, and a host that enforces what it says to the letter; also the daemon's evaluator, which explains
 * verdicts. No kernel, hence many cases in little time.
 */
export class Paper implements Subject {
  protected world: World | undefined;
  protected feed: Feed | undefined;

  async restart(): Promise<void> {
    this.feed = undefined;
    this.world = undefined;
  }

  async become(world: World): Promise<void> {
    // What the host itself may do is a setting: another one is another daemon.
    if (this.world?.fromHost !== world.fromHost) await this.restart();
    this.feed ??= new Feed(NODE, world.fromHost);
    for (const [key, text] of changes(this.world, world)) this.feed.set(key, text);
    this.world = world;
    this.feed.resolve();
  }

  async judge(packets: readonly Packet[]): Promise<string[]> {
    return packets.map(packet => {
      const resolved = this.resolved(packet);
      const evaluated = this.evaluation(packet).verdict === 'allow';
      if (resolved === evaluated) return resolved ? 'passed' : 'dropped';
      return `${resolved ? 'passed' : 'dropped'} by the resolver and not by the evaluator`;
    });
  }

  async explain(packet: Packet): Promise<string> {
    const { steps } = this.evaluation(packet);
    return steps.map(step => `  ${JSON.stringify(step)}`).join('\n');
  }

  /** What the daemon's evaluator says, as far as it is this host that judges. */
  evaluation(packet: Packet): Evaluation {
    const { to } = arrivalOf(this.now, packet);
    const from = placeOf(packet.from);
    const judged = this.judged(packet);
    if (from.kind === 'host' && this.now.fromHost !== 'policy' && this.endpointOf(to) !== undefined)
      return { verdict: this.now.fromHost, steps: [] };
    const sides = [
      ...(from.kind === 'local' ? [{ place: from, direction: 'egress' as const }] : []),
      ...(to.kind === 'local' ? [{ place: to, direction: 'ingress' as const }] : []),
    ];
    const steps: Step[] = [];
    for (const { place, direction } of sides) {
      const endpoint = this.endpointOf(place);
      if (endpoint === undefined)
        return { verdict: 'deny', steps: [{ what: `no ${place.name}`, outcome: 'deny' }] };
      const evaluation = evaluate(this.facts, endpoint, direction, judged);
      steps.push(...evaluation.steps);
      if (evaluation.verdict === 'deny') return { verdict: 'deny', steps };
    }
    return { verdict: 'allow', steps };
  }

  private get facts(): PolicyFacts {
    if (this.feed === undefined) throw new Error('there is no world');
    return this.feed.facts;
  }

  private endpointOf(place: Place): PolicyEndpoint | undefined {
    return endpointAt(this.facts, place.addresses[0] ?? '');
  }

  private get now(): World {
    if (this.world === undefined) throw new Error('there is no world');
    return this.world;
  }

  private judged(packet: Packet): JudgedPacket {
    const { translated, ...judged } = judgedOf(this.now, packet);
    return { ...judged, isTranslated: translated };
  }

  private resolved(packet: Packet): boolean {
    if (this.feed === undefined) throw new Error('there is no world');
    const policy = this.feed.resolve();
    const judged = this.judged(packet);
    const from = placeOf(packet.from);
    const { to } = arrivalOf(this.now, packet);
    if (from.wiring && interpret(policy, from.wiring.hostInterface, 'egress', judged) === 'deny')
      return false;
    if (to.wiring === undefined) return true;
    const { hostInterface } = to.wiring;
    if (from.kind === 'host' && policy.fromHost !== 'policy')
      return policy.endpoints.has(hostInterface) && policy.fromHost === 'allow';
    return interpret(policy, hostInterface, 'ingress', judged) === 'allow';
  }
}
