import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/commands.js';
import { settingsTable } from '../../src/config.js';
import { metricsTable } from '../../src/metrics/prometheus.js';
import { optionsTable } from '../../src/plugin/documented-options.js';
import { REPOSITORY } from '../bed/paths.js';

const read = (path: string) => readFileSync(join(REPOSITORY, path), 'utf8');

const groups = [...new Set(COMMANDS.map(({ group }) => group))];

function commandsTable(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  return groups
    .map(group => {
      const rows = COMMANDS.filter(command => command.group === group).map(
        ({ name, usage, help, example }) =>
          `| \`${name}${usage === '' ? '' : ` ${cell(usage)}`}\` | ${cell(help)} | \`${cell(example)}\` |`,
      );
      return [
        `### ${group}`,
        '',
        '| command | what it does | for example |',
        '| --- | --- | --- |',
        ...rows,
      ].join('\n');
    })
    .join('\n\n');
}

const reference = () => `# Reference

Made out of the code: \`npm run test:only -- test/unit/reference.test.ts -u\` writes it anew.

## Settings

All from the environment: of \`calico-libnetwork serve\`, and of the commands, which read the same. With systemd they are in
\`/etc/default/calico-libnetwork\`. Names are Calico's and the old plugin's where they had one.

${settingsTable()}

## Options of networks

Of \`docker network create --driver calico --ipam-driver calico-ipam\`.

${optionsTable()}

## Commands

\`calico-libnetwork serve\` is the daemon; \`serve --print-config\` shows every setting as it is in force. All others read and
change the datastore:

${commandsTable()}

Each says more with \`--help\`.

## Metrics

At \`/metrics\` of \`CALICO_LIBNETWORK_METRICS_ADDRESS\`; those of the process (\`process_…\`, \`nodejs_…\`) besides.

${metricsTable()}
`;

describe('the documents', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'plugin-spec/examples/README.md'].concat(
    readdirSync(join(REPOSITORY, 'docs'))
      .filter(name => name.endsWith('.md'))
      .map(name => `docs/${name}`),
  );

  it('have a reference that is what the code says', async () => {
    await expect(reference()).toMatchFileSnapshot(join(REPOSITORY, 'docs/reference.md'));
  });

  it('link to nothing that is not there', () => {
    const anchorOf = (heading: string) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .trim()
        .replaceAll(' ', '-');
    const missing = pages.flatMap(page =>
      [...read(page).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)].flatMap(
        ([, path = '', anchor]) => {
          const target = path === '' ? page : join(page, '..', path);
          try {
            if (anchor === undefined)
              return readdirSync(join(REPOSITORY, target, '..')).includes(target.split('/').at(-1) ?? '')
                ? []
                : [`${page}: ${path}`];
            const headings = read(target)
              .split('\n')
              .flatMap(line => /^#+ (.*)$/.exec(line)?.[1] ?? []);
            return headings.map(anchorOf).includes(anchor) ? [] : [`${page}: ${path}#${anchor}`];
          } catch {
            return [`${page}: ${path}`];
          }
        },
      ),
    );
    expect(missing).toEqual([]);
  });

  it('name no setting that does not exist', () => {
    const known = settingsTable();
    const named = pages.flatMap(page => read(page).match(/\bCALICO_LIBNETWORK_[A-Z_]+\b/g) ?? []);
    const unknown = named.filter(
      name => !known.includes(name) && !/^CALICO_LIBNETWORK_(TEST|ENABLED)/.test(name),
    );
    expect([...new Set(unknown)]).toEqual([]);
  });

  it('quote errors as they are', () => {
    const sources = readdirSync(join(REPOSITORY, 'src'), { recursive: true })
      .map(String)
      .filter(name => name.endsWith('.ts'))
      .map(name => read(`src/${name}`))
      .join('\n')
      // A text that goes on in the next line of the source.
      .replaceAll(/[`'"] \+\n\s*[`'"]/g, '')
      .replaceAll("\\'", "'");
    const quoted = [...read('docs/troubleshooting.md').matchAll(/^### `(.*)`$/gm)].flatMap(([, text = '']) =>
      text
        .split('…')
        .map(part => part.trim())
        .filter(part => part.length > 3),
    );
    expect(quoted.length).toBeGreaterThan(20);
    // What others say is said with their name in front.
    expect(quoted.filter(part => !sources.includes(part))).toEqual([]);
  });
});
