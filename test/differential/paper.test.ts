import { expect, it } from 'vitest';
import { DEFAULTS, differential } from './differential.js';
import { Paper } from './paper.js';

it.each([1, 2, 3])(
  'what is resolved, and what is explained, is what Calico says (seed %i)',
  async seed => {
    const options = { ...DEFAULTS, seed, cases: Number(process.env.CASES ?? 20000) };
    const { disagreement, ...figures } = await differential(new Paper(), options);
    console.log(figures);
    expect(disagreement).toBe(undefined);
  },
  300_000,
);
