import type { Engine } from '../bed/engines.js';
import type { EtcdKind } from './victims.js';

/** What a run is made of; the same seed gives the same commands and kills in the same order, at about the same times. */
export interface ChaosOptions {
  readonly seed: number;
  readonly milliseconds: number;
  readonly engine: Engine;
  readonly etcd: EtcdKind;
  /** Told what happens, a line each. */
  say(text: string): void;
}

/** What a run saw. All lists are empty where all is well. Times in milliseconds. */
export interface ChaosReport {
  readonly commands: number;
  /** Commands that docker refused. */
  readonly refused: number;
  /** Refusals that cannot be explained while nothing was killed, with how often. */
  readonly unexplained: readonly string[];
  /** Commands that had no end. */
  readonly hung: readonly string[];
  readonly kills: Readonly<Record<string, number>>;
  readonly looks: number;
  readonly pings: number;
  readonly duplicates: readonly string[];
  readonly unreachable: readonly string[];
  readonly longest: { readonly command: string; readonly milliseconds: number };
  /** The longest of those during which nothing was down. */
  readonly longestUndisturbed: { readonly command: string; readonly milliseconds: number };
  /** Containers that ran when the typing and killing was over. */
  readonly survivors: number;
  /** From when all was up for good; undefined where they never agreed. */
  readonly agreementAfter: number | undefined;
  /** What did not agree in the end, and what was left when all was removed. */
  readonly leaks: readonly string[];
}

/** Milliseconds within which all agree: the grace time and the interval of a run, and what a busy machine takes. */
export const AGREED = 3_000 + 2_000 + 10_000;

/** A report as lines to print. */
export function format(report: ChaosReport, { seed, engine, etcd }: ChaosOptions): string {
  const kills = Object.entries(report.kills);
  const total = kills.reduce((sum, [, times]) => sum + times, 0);
  const list = (what: string, all: readonly string[]) => [
    `${what}: ${all.length}`,
    ...all.map(each => `  ${each}`),
  ];
  const { longest, longestUndisturbed: quiet } = report;
  return [
    `chaos on Docker ${engine}, ${etcd} etcd, seed ${seed}`,
    `docker commands: ${report.commands}, refused ${report.refused}`,
    `kills: ${total} (${kills.map(([what, times]) => `${what} ${times}`).join(', ')})`,
    `looks while all was up: ${report.looks}, pings ${report.pings}`,
    ...list('leaks', report.leaks),
    ...list('duplicates', report.duplicates),
    ...list('unreachable', report.unreachable),
    ...list('commands without end', report.hung),
    ...list('refusals unexplained', report.unexplained),
    `longest docker command: ${longest.milliseconds} ms (${longest.command}); with all up: ${quiet.milliseconds} ms (${quiet.command})`,
    `containers up in the end: ${report.survivors}; agreement after ${report.agreementAfter ?? 'never: more than ' + String(AGREED)} ms`,
  ].join('\n');
}
