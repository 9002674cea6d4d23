import { parsePolicy } from '../src/model/policy.js';
import { parseProfile, formatNewProfile } from '../src/model/profile.js';
import { STANDARD_TIERS } from '../src/model/tier.js';
import type { PolicyEndpoint } from '../src/policy/facts.js';
import { PolicyResolver } from '../src/policy/resolve.js';
import { aim, percentile, round, say, timed } from './support/report.js';

/**
 * How long it takes, without a kernel, to say what a host enforces: 1,000 containers of its own, 10,000 elsewhere, 1,000
 * policies. `npm run bench -- policy-resolve`
 */

const LOCAL = 1_000;
const REMOTE = 10_000;
const POLICIES = 1_000;
const APPS = 500;
const NETWORKS = 10;

function endpoint(number: number): PolicyEndpoint {
  return {
    node: number < LOCAL ? 'here' : `h${number % 100}`,
    interfaceName: `cali${number}`,
    mac: '02:42:00:00:00:01',
    addresses: [`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`, `fd00::${number.toString(16)}`],
    profiles: [`net${number % NETWORKS}`],
    labels: {
      app: `app${number % APPS}`,
      role: `role${number % 7}`,
      env: `env${number % 3}`,
      'projectcalico.org/namespace': 'libnetwork',
      'projectcalico.org/orchestrator': 'libnetwork',
    },
    namedPorts: [],
    published: [],
  };
}

function policy(number: number, port = 80) {
  const app = number % APPS;
  const spec = {
    order: number,
    selector: `app == 'app${app}'`,
    types: ['Ingress', 'Egress'],
    ingress: [
      {
        action: 'Allow',
        protocol: 'TCP',
        source: { selector: `app == 'app${(app + 1) % APPS}'` },
        destination: { ports: [port, 443] },
      },
      {
        action: 'Allow',
        protocol: 'TCP',
        source: { selector: `role == 'role${number % 7}' && env in {'env1', 'env2'}` },
      },
    ],
    egress: [
      { action: 'Allow', destination: { selector: `app == 'app${(app + 2) % APPS}'` } },
      { action: 'Allow', destination: { nets: ['10.0.0.0/8'] } },
    ],
  };
  const { value } = parsePolicy(JSON.stringify({ metadata: { name: `p${number}` }, spec }), '');
  if (!value) throw new Error('no policy');
  return value;
}

const resolver = new PolicyResolver('here');
const full = await timed(async () => {
  for (const tier of STANDARD_TIERS) resolver.setTier(tier.name, tier);
  for (let number = 0; number < POLICIES; number += 1) resolver.setPolicy(`p${number}`, policy(number));
  for (let number = 0; number < NETWORKS; number += 1) {
    const { value } = parseProfile(formatNewProfile(`net${number}`, new Date()));
    resolver.setProfile(`net${number}`, value);
  }
  for (let number = 0; number < LOCAL + REMOTE; number += 1)
    resolver.setEndpoint(`e${number}`, endpoint(number));
  resolver.resolve();
});
const { rules, addressSets, endpoints } = resolver.resolve();
say(`${rules.size} lists of rules, ${addressSets.size} sets, ${endpoints.size} endpoints`);
aim('all of it', full, '<=', 1_500, ' ms');

const changes: [string, (turn: number) => void][] = [
  [
    'label of a container here',
    turn =>
      resolver.setEndpoint('e5', { ...endpoint(5), labels: { ...endpoint(5).labels, app: `app${turn}` } }),
  ],
  [
    'label of a container elsewhere',
    turn =>
      resolver.setEndpoint('e5000', {
        ...endpoint(5000),
        labels: { ...endpoint(5000).labels, app: `app${turn}` },
      }),
  ],
  [
    'a new container here',
    turn =>
      resolver.setEndpoint(`n${turn}`, {
        ...endpoint(20_000 + turn),
        node: 'here',
        interfaceName: `calin${turn}`,
      }),
  ],
  ['rules of a policy', turn => resolver.setPolicy('p7', policy(7, 1000 + turn))],
  ['a new policy', turn => resolver.setPolicy(`new${turn}`, policy(10_000 + turn))],
  [
    'labels of a profile',
    turn =>
      resolver.setProfile(
        'net1',
        parseProfile(formatNewProfile(turn % 2 === 0 ? 'other' : 'net1', new Date())).value,
      ),
  ],
];
for (const [what, change] of changes) {
  const each: number[] = [];
  for (let turn = 0; turn < 50; turn += 1)
    each.push(
      await timed(async () => {
        change(turn);
        resolver.resolve();
      }),
    );
  aim(`${what}, 90th percentile`, percentile(each, 0.9), '<=', 25, ' ms');
}
say(`heap: ${round(process.memoryUsage().heapUsed / 1e6)} MB`);
