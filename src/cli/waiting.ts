import type { Output } from './command.js';

/** Milliseconds: shorter waits are not worth a word. */
const PATIENCE = 1_000;
const BETWEEN_WORDS = 200;

/** Tells a person who waits how far it is: after a second, and then not too often. */
export class Waiting {
  private next = Date.now() + PATIENCE;

  constructor(private readonly out: Output) {}

  show(text: string): void {
    if (Date.now() < this.next) return;
    this.next = Date.now() + BETWEEN_WORDS;
    this.out.progress(text);
  }

  /** Wipes it. */
  end(): void {
    this.out.progress(undefined);
  }
}
