/**
 * Since when something has been so, looked at again and again. What a look does not show is forgotten: it was not so all
 * the time. Times are in milliseconds of a clock that never goes back.
 */
export class Since {
  private first = new Map<string, number>();

  /** Takes note of all keys that are so `now`; by key, for how long they have been. */
  look(keys: Iterable<string>, now: number): ReadonlyMap<string, number> {
    const before = this.first;
    this.first = new Map([...keys].map(key => [key, before.get(key) ?? now]));
    return new Map([...this.first].map(([key, first]) => [key, now - first]));
  }

  /** Begins anew: what was so before says nothing of now. */
  forget(): void {
    this.first = new Map();
  }
}
