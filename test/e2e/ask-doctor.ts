import { join } from 'node:path';
import type { Finding } from '../../src/doctor/finding.js';
import type { Host } from '../bed/host.js';
import { REPOSITORY } from '../bed/paths.js';

/** What `calico-libnetwork doctor -o json` answers. */
export interface DoctorReport {
  /** Exit status. */
  readonly code: number;
  readonly problems: number;
  readonly checks: readonly Finding[];
}

/** Runs the doctor on a host; `env`: settings of its own, else it has the running daemon's. */
export async function askDoctor(
  host: Host,
  env: Readonly<Record<string, string>> = {},
): Promise<DoctorReport> {
  const argv = [process.execPath, join(REPOSITORY, 'dist/main.js'), 'doctor', '-o', 'json'];
  const { code, stdout } = await host.run(argv, { env, check: false, timeout: 20_000 });
  return { code, ...(JSON.parse(stdout) as Omit<DoctorReport, 'code'>) };
}

/** What it finds wrong, without what is well: level, check and text in one line each. */
export async function ailmentsOf(
  host: Host,
  env?: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  return (await askDoctor(host, env)).checks.flatMap(({ check, level, text }) =>
    level === 'ok' ? [] : `${level} ${check}: ${text}`,
  );
}
