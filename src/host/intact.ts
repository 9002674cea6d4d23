/** Milliseconds that the clocks of the kernel and of this process may tell the same moment apart. */
const MARGIN = 10;

/** When the policy table was last seen, or made, as it should be; in milliseconds since 1970. */
export class Intact {
  private rulesAt = 0;
  private elementsAt = 0;

  /** Nothing that is let through now began under other rules, if it began before this. */
  get rules(): number {
    return this.rulesAt - MARGIN;
  }

  /** The same, and under other elements. */
  get elements(): number {
    return this.elementsAt - MARGIN;
  }

  /** `at`: of before it was looked. `isAll`: elements too. */
  saw(at: number, isAll: boolean): void {
    this.rulesAt = Math.max(this.rulesAt, at);
    if (isAll) this.elementsAt = Math.max(this.elementsAt, at);
  }
}
