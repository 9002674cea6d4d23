import { eachAttribute, nameOf } from './bytes.js';
import { CODES, DATA, ELEMENT, VERDICT, keyBytes, rangeBytes } from './nft-messages.js';
import type { NftNetlink } from './nft-netlink.js';
import type { ElementChange, PolicyChange } from './nft-policy-diff.js';
import { POLICY_TABLE } from './nft-policy-names.js';
import { FIXED_SETS } from './nft-policy-sets.js';

/**
 * Whether the kernel's sets hold what a whole table is made of, and nothing else. Compared as bytes: texts of ten thousand
 * elements would take a second. Throws NetlinkError, also where a set is missing.
 */
export async function hasElements(netlink: NftNetlink, whole: PolicyChange): Promise<boolean> {
  const wanted = new Map<string, Set<string>>();
  for (const name of [...Object.keys(FIXED_SETS), ...whole.addSets.keys()]) wanted.set(name, new Set());
  for (const change of whole.addElements)
    for (const text of elementTexts(change)) wanted.get(change.set)?.add(text);
  for (const [set, texts] of wanted)
    if (!(await holdsJust(netlink, POLICY_TABLE, set, texts, textOf))) return false;
  return true;
}

/**
 * Whether a set of the kernel's holds these elements and no others. `textOf`: an element as `texts` has it; undefined: it
 * means nothing. Throws NetlinkError, also where the set is missing.
 */
export async function holdsJust(
  netlink: NftNetlink,
  table: string,
  set: string,
  texts: ReadonlySet<string>,
  textOf: (element: Buffer) => string | undefined,
): Promise<boolean> {
  let [found, isStrange] = [0, false];
  await netlink.elements(table, set, element => {
    const text = textOf(element);
    if (text === undefined) return;
    if (texts.has(text)) found += 1;
    else isStrange = true;
  });
  return !isStrange && found === texts.size;
}

/** What {@link textOf} makes of the elements that a key is in the kernel. */
function elementTexts({ type, key, verdict }: ElementChange): string[] {
  if (type.isRanges) {
    const { first, end } = rangeBytes(key);
    return [text(first, false, ''), ...(end === undefined ? [] : [text(end, true, '')])];
  }
  const [word = '', chain = ''] = (verdict ?? '').split(' ');
  return [text(keyBytes(type.fields, key), false, verdict === undefined ? '' : `${CODES[word]} ${chain}`)];
}

/** An element of the kernel; undefined for the end that nft puts before the first range, which means nothing. */
function textOf(element: Buffer): string | undefined {
  let key: Buffer = Buffer.alloc(0);
  let isEnd = false;
  let verdict = '';
  eachAttribute(element, 0, (type, start, end) => {
    const value = element.subarray(start, end);
    if (type === ELEMENT.key) key = inner(value, DATA.value);
    else if (type === ELEMENT.flags) isEnd = (value.readUInt32BE(0) & 1) !== 0;
    else if (type === ELEMENT.data) verdict = verdictText(inner(value, DATA.verdict));
  });
  if (isEnd && key.every(byte => byte === 0)) return undefined;
  return text(key, isEnd, verdict);
}

function verdictText(data: Buffer): string {
  const code = inner(data, VERDICT.code);
  const number = code.length === 4 ? code.readInt32BE(0) : NaN;
  return `${number} ${nameOf(inner(data, VERDICT.chain))}`;
}

/** The content of an attribute among others; empty where it is missing. */
export function inner(data: Buffer, wanted: number): Buffer {
  let found: Buffer = Buffer.alloc(0);
  eachAttribute(data, 0, (type, start, end) => {
    if (type === wanted) found = data.subarray(start, end);
  });
  return found;
}

function text(key: Buffer, isEnd: boolean, verdict: string): string {
  return `${key.toString('latin1')} ${isEnd ? 'end' : ''} ${verdict}`;
}
