import tseslint from 'typescript-eslint';

/** Folders whose code is pure: what they import may not touch the outside world. */
const PURE = [
  'src/model/**/*.ts',
  'src/routing/**/*.ts',
  'src/ipam/cidr.ts',
  'src/ipam/block.ts',
  'src/ipam/candidates.ts',
  'src/ipam/check*.ts',
];
const EDGES = [
  'node:fs',
  'node:fs/promises',
  'node:net',
  'node:http',
  'node:child_process',
  'etcd3',
  'netlink',
  'fastify',
];

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'test/fixtures/'] },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts', '**/*.mjs', '**/*.js'],
    rules: {
      'max-lines': ['error', { max: 350, skipBlankLines: true, skipComments: true }],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'name what you export' },
      ],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/config.ts', 'src/main.ts'],
    rules: {
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'settings are read once, in config.ts' },
      ],
      'no-console': 'error',
    },
  },
  {
    files: PURE,
    rules: {
      'no-restricted-imports': ['error', { paths: EDGES.map(name => ({ name, message: 'pure code' })) }],
    },
  },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          paths: [
            {
              name: 'node:child_process',
              importNames: ['exec', 'execSync'],
              message: 'argument arrays only: host/run.ts',
            },
          ],
        },
      ],
    },
  },
  { files: ['.config/*'], rules: { 'no-restricted-syntax': 'off' } },
);
