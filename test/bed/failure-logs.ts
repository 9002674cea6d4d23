import { existsSync, readFileSync } from 'node:fs';
import { afterEach } from 'vitest';
import { Bed } from './bed.js';

/** Lines of each log that are shown. */
const LINES = 150;

/** A vitest setup file: what the daemons of all hosts logged, beside each test that failed with them. */
afterEach(({ task }) => {
  if (task.result?.state !== 'fail') return;
  for (const { log, text } of logs()) console.error(`${log} when «${task.name}» failed:\n${text}`);
});

function logs(): { log: string; text: string }[] {
  return [...Bed.live]
    .flatMap(bed => bed.hosts)
    .flatMap(host => {
      const log = host.logFile('calico-libnetwork');
      if (!existsSync(log)) return [];
      const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
      return [{ log: `calico-libnetwork on ${host.name}`, text: lines.slice(-LINES).join('\n') }];
    });
}
