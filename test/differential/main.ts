import { prepare } from '../host/pretend-host.js';
import { DEFAULTS, differential } from './differential.js';
import type { DifferentialOptions, Report } from './differential.js';
import { Kernel } from './kernel.js';
import { Paper } from './paper.js';
import { Stage } from './stage.js';

export interface KernelReport extends Report {
  /** Milliseconds, from a change of the datastore to its enforcement. */
  readonly medianDelay: number;
}

/** Real packets against the oracle. Builds the stage, and takes it down again. */
export async function againstKernel(
  options: Pick<DifferentialOptions, 'seed' | 'cases'> & Partial<DifferentialOptions>,
): Promise<KernelReport> {
  const clean = await prepare();
  try {
    const stage = await Stage.build();
    const kernel = new Kernel(stage);
    try {
      const report = await differential(kernel, { ...DEFAULTS, ...options });
      const delays = [...kernel.delays].sort((a, b) => a - b);
      return { ...report, medianDelay: delays[Math.floor(delays.length / 2)] ?? NaN };
    } finally {
      await kernel.end();
      await stage.end();
    }
  } finally {
    clean();
  }
}

/** The resolver and the evaluator against the oracle, without a kernel. */
export function againstPaper(
  options: Pick<DifferentialOptions, 'seed' | 'cases'> & Partial<DifferentialOptions>,
): Promise<Report> {
  return differential(new Paper(), { ...DEFAULTS, ...options });
}

/** For a person. */
export function reportText(report: Report): string {
  const { cases, passed, states, milliseconds, disagreement } = report;
  const figures = `${cases} packets, ${passed} of them let through, in ${states} states, ${(milliseconds / 1000).toFixed(1)} s`;
  return disagreement === undefined ? `${figures}: no disagreement` : `${figures}\n${disagreement}`;
}
