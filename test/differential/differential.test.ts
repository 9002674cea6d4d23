import { expect, it } from 'vitest';
import { againstKernel, againstPaper, reportText } from './main.js';

/** Another one each day, so that more is tried than one run has time for; the report names it. */
const SEED = Math.floor(Date.now() / 86_400_000);

it('what is resolved, and what is explained, is what Calico says', async () => {
  const report = await againstPaper({ seed: SEED, cases: 40_000, shrinkFor: 30_000 });
  expect(report.disagreement).toBe(undefined);
});

it('real packets pass where Calico says so, and nowhere else', async () => {
  const report = await againstKernel({ seed: SEED, cases: 4000, shrinkFor: 60_000 });
  console.log(reportText(report));
  expect(report.disagreement).toBe(undefined);
  // A test in which nothing passes, or everything, shows nothing.
  expect(report.passed / report.cases).toBeGreaterThan(0.1);
  expect(report.passed / report.cases).toBeLessThan(0.7);
});
