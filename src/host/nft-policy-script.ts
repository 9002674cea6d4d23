import { baseChains } from './nft-policy-base.js';
import type { ElementChange, PolicyChange } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { deletionOf } from './nft-script.js';
import { FIXED_SETS, typeText } from './nft-policy-sets.js';
import { chain } from './nft-table.js';

const TABLE = `inet ${POLICY_TABLE}`;

/**
 * A change as a script for `nft -f`, which is one transaction. Only what changes is named: counters, and whatever else the
 * kernel keeps with rules, stay where nothing changed.
 */
export function changeScript(change: PolicyChange): string {
  return [...changeLines(change), ''].join('\n');
}

/**
 * The whole table anew, filled by `change`; `prefix`: of the names of containers' interfaces. Packets see the table there
 * was, or this one.
 */
export function tableScript(change: PolicyChange, prefix: string): string {
  return [...deletionOf(TABLE), ...fixedLines([...baseChains(prefix)]), ...changeLines(change), ''].join(
    '\n',
  );
}

/**
 * A table that lets nothing new pass, small enough to be there at once; what is established goes on, since the sources of
 * packets are not looked at. For as long as the whole table takes that nobody wanted to miss.
 */
export function closedScript(prefix: string): string {
  const base = [...baseChains(prefix)].filter(([, lines]) => !lines.some(line => / @sources/.test(line)));
  return [...fixedLines(base), ''].join('\n');
}

function fixedLines(base: readonly (readonly [string, readonly string[]])[]): string[] {
  const sets = Object.entries(FIXED_SETS).map(
    ([name, type]) => `  ${type.isMap ? 'map' : 'set'} ${name} { ${typeText(type)} }`,
  );
  return [`table ${TABLE} {`, ...sets, ...base.flatMap(([name, lines]) => chain(name, lines)), '}'];
}

function changeLines(change: PolicyChange): string[] {
  const isNew = new Set(change.addChains);
  return [
    ...[...change.addSets].map(([name, type]) => `add set ${TABLE} ${name} { ${typeText(type)} }`),
    ...change.addChains.map(name => `add chain ${TABLE} ${name}`),
    ...[...change.fillChains].flatMap(([name, lines]) => [
      ...(isNew.has(name) ? [] : [`flush chain ${TABLE} ${name}`]),
      ...lines.map(line => `add rule ${TABLE} ${name} ${line}`),
    ]),
    ...elementLines('delete', change.removeElements),
    ...elementLines('add', change.addElements),
    // Empty first: they name each other.
    ...change.removeChains.map(name => `flush chain ${TABLE} ${name}`),
    ...change.removeChains.map(name => `delete chain ${TABLE} ${name}`),
    ...change.removeSets.map(name => `delete set ${TABLE} ${name}`),
  ];
}

function elementLines(verb: 'add' | 'delete', changes: readonly ElementChange[]): string[] {
  const bySet = new Map<string, string[]>();
  for (const { set, key, verdict } of changes) {
    const text = verdict === undefined ? key : `${key} : ${verdict}`;
    const texts = bySet.get(set);
    if (texts) texts.push(text);
    else bySet.set(set, [text]);
  }
  return [...bySet].map(([set, texts]) => `${verb} element ${TABLE} ${set} { ${texts.join(', ')} }`);
}
