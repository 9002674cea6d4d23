import { requirementOf } from '../model/selector-tree.js';
import type { Labels, Selector } from '../model/selector-tree.js';
import { added, removed } from './set-map.js';

/** Things with the same labels. */
interface Group {
  readonly labels: Labels;
  readonly items: Set<string>;
  /** Texts of the selectors that match. */
  readonly matching: Set<string>;
}

interface Indexed {
  readonly selector: Selector;
  readonly groups: Set<Group>;
}

/**
 * Which selectors match which things, kept up to date as either comes and goes. A selector is asked once for each set of
 * labels that things have, and only for those that could match: most selectors ask for one value of one label.
 */
export class SelectorIndex {
  private readonly groups = new Map<string, Group>();
  private readonly groupOf = new Map<string, Group>();
  private readonly selectors = new Map<string, Indexed>();
  /** By a label they need, and by that with a value they need; the others need nothing that simple. */
  private readonly bySelectors = { needs: new Map<string, Set<Indexed>>(), others: new Set<Indexed>() };
  private readonly groupsWith = new Map<string, Set<Group>>();

  /**
   * @param changed is told, by its text, of each selector that matches other things than before, and of the thing
   */
  constructor(private readonly changed: (selector: string, item: string) => void = () => undefined) {}

  /** Gives a thing its labels; undefined takes it away. Returns false where nothing changed. */
  set(item: string, labels: Labels | undefined): boolean {
    const before = this.groupOf.get(item);
    const after = labels && this.group(labels);
    if (before === after) return false;
    if (after) {
      after.items.add(item);
      this.groupOf.set(item, after);
    } else this.groupOf.delete(item);
    before?.items.delete(item);
    for (const text of before?.matching ?? []) if (!after?.matching.has(text)) this.changed(text, item);
    for (const text of after?.matching ?? []) if (!before?.matching.has(text)) this.changed(text, item);
    if (before?.items.size === 0) this.dropGroup(before);
    return true;
  }

  /** Begins to follow a selector; nobody is told of what it matches from the start. */
  add(selector: Selector): void {
    if (this.selectors.has(selector.text)) return;
    const indexed: Indexed = { selector, groups: new Set() };
    this.selectors.set(selector.text, indexed);
    const keys = needs(selector);
    for (const key of keys ?? []) added(this.bySelectors.needs, key, indexed);
    if (!keys) this.bySelectors.others.add(indexed);
    const candidates = keys
      ? keys.flatMap(key => [...(this.groupsWith.get(key) ?? [])])
      : this.groups.values();
    for (const group of candidates) this.tryMatch(indexed, group);
  }

  delete(text: string): void {
    const indexed = this.selectors.get(text);
    if (!indexed) return;
    this.selectors.delete(text);
    for (const group of indexed.groups) group.matching.delete(text);
    for (const key of needs(indexed.selector) ?? []) removed(this.bySelectors.needs, key, indexed);
    this.bySelectors.others.delete(indexed);
  }

  /** The things that a selector matches. */
  *itemsOf(text: string): IterableIterator<string> {
    for (const group of this.selectors.get(text)?.groups ?? []) yield* group.items;
  }

  /** The selectors that match a thing, by their texts. */
  matching(item: string): ReadonlySet<string> {
    return this.groupOf.get(item)?.matching ?? new Set();
  }

  matches(text: string, item: string): boolean {
    return this.matching(item).has(text);
  }

  private group(labels: Labels): Group {
    const entries = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify(entries);
    const known = this.groups.get(key);
    if (known) return known;
    const group: Group = { labels, items: new Set(), matching: new Set() };
    this.groups.set(key, group);
    for (const need of keysOf(labels)) {
      added(this.groupsWith, need, group);
      for (const indexed of this.bySelectors.needs.get(need) ?? []) this.tryMatch(indexed, group);
    }
    for (const indexed of this.bySelectors.others) this.tryMatch(indexed, group);
    return group;
  }

  private dropGroup(group: Group): void {
    this.groups.delete(JSON.stringify(Object.entries(group.labels).sort(([a], [b]) => (a < b ? -1 : 1))));
    for (const text of group.matching) this.selectors.get(text)?.groups.delete(group);
    for (const need of keysOf(group.labels)) removed(this.groupsWith, need, group);
  }

  private tryMatch(indexed: Indexed, group: Group): void {
    if (!indexed.selector.matches(group.labels)) return;
    indexed.groups.add(group);
    group.matching.add(indexed.selector.text);
  }
}

/** What labels offer: each label, and each with its value. */
function keysOf(labels: Labels): string[] {
  return Object.entries(labels).flatMap(([key, value]) => [key, `${key}=${value}`]);
}

/** One of these a group must offer; undefined where any might match. A label's name has no `=`. */
function needs({ tree }: Selector): string[] | undefined {
  const requirement = requirementOf(tree);
  if (!requirement) return undefined;
  const { key, values } = requirement;
  return values ? [...values].map(value => `${key}=${value}`) : [key];
}
