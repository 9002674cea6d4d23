import fc from 'fast-check';
import { beforeEach, expect, it } from 'vitest';
import { formatYaml } from '../../src/cli/format.js';
import { resourcesPrefix } from '../../src/datastore/keys.js';
import { formatJson, objectOrEmpty, parseJson } from '../../src/model/json.js';
import { RequestError } from '../../src/errors.js';
import { readResources } from '../../src/resources/resource-file.js';
import { getResource, listResources, printable } from '../../src/resources/stored-resource.js';
import type { WriteVerb } from '../../src/resources/write-plan.js';
import { put } from '../contract/store.contract.js';
import { MemoryStore } from '../fakes/memory-store.js';
import { kindCalled, resource, writeTo } from './resource-kit.js';

let store: MemoryStore;
beforeEach(() => (store = new MemoryStore()));
const write = (text: string, verb?: WriteVerb) => writeTo(store, text, verb);

/** Values as other Calico clients may have written them, fields of the future included. */
const odd = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.bigInt({ min: 10n ** 17n, max: 10n ** 19n }),
  fc.constant(null),
  fc.boolean(),
  fc.constantFrom('yes', '0o7', '1e3', '~', '=', '12:30:45', '- a', '#', 'null', '2001-01-01'),
);
const label = fc.stringMatching(/^[a-z]([a-z0-9.]{0,8}[a-z0-9])?$/);
const labels = fc.dictionary(label, fc.stringMatching(/^([A-Za-z0-9]([A-Za-z0-9._-]{0,6}[A-Za-z0-9])?)?$/), {
  maxKeys: 3,
});
const net = fc.tuple(fc.nat(255), fc.nat(255)).map(([a, b]) => `10.${a}.${b}.0/24`);
const side = fc.record({ nets: fc.array(net, { maxLength: 2 }), selector: fc.constantFrom('', 'all()', 'role == "db"', "has(a) && b != 'c'"), ports: fc.array(fc.oneof(fc.nat(65_535), fc.constantFrom('80:90', 'http')), { maxLength: 3 }) }, { requiredKeys: [] }); // prettier-ignore
const rules = fc.array(fc.record({ action: fc.constantFrom('Allow', 'Deny', 'Log', 'Pass'), protocol: fc.constantFrom('TCP', 'UDP', 17), source: side, destination: side }, { requiredKeys: ['action', 'protocol'] }), { maxLength: 3 }); // prettier-ignore
const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
const order = fc.oneof(fc.nat(), fc.double({ min: 0, max: 1000, noNaN: true }));
const specs: readonly (readonly [string, fc.Arbitrary<object>])[] = [
  ['IPReservation', fc.record({ reservedCIDRs: fc.array(net) })],
  ['Node', fc.record({ bgp: fc.record({ ipv4Address: fc.constant('10.0.0.1/24'), asNumber: fc.oneof(fc.nat(), fc.constant('1.10')) }), orchRefs: fc.array(fc.record({ orchestrator: fc.string() })) }, { requiredKeys: [] })], // prettier-ignore
  ['Profile', fc.record({ ingress: rules, egress: rules, labelsToApply: labels }, { requiredKeys: [] })],
  ['GlobalNetworkPolicy', fc.record({ order, ingress: rules, egress: rules, selector: fc.constantFrom('', 'all()') }, { requiredKeys: [] })], // prettier-ignore
  ['NetworkPolicy', fc.record({ order, ingress: rules, types: fc.constantFrom(['Ingress'], ['Egress', 'Ingress']) }, { requiredKeys: [] })], // prettier-ignore
  ['Tier', fc.record({ order, defaultAction: fc.constantFrom('Pass', 'Deny') }, { requiredKeys: [] })],
  ['GlobalNetworkSet', fc.record({ nets: fc.array(net) })],
  ['NetworkSet', fc.record({ nets: fc.array(net) }, { requiredKeys: [] })],
  ['IPPool', fc.record({ cidr: net, natOutgoing: fc.boolean(), vxlanMode: fc.constantFrom('Never', 'Always') }, { requiredKeys: ['cidr'] })], // prettier-ignore
];
const anyResource = fc
  .integer({ min: 0, max: specs.length - 1 })
  .chain(index => fc.tuple(fc.constant(specs[index]?.[0] ?? ''), name, specs[index]?.[1] ?? fc.constant({}), labels, fc.dictionary(label, odd, { maxKeys: 2 }))); // prettier-ignore

it('everything that get prints is accepted by apply and replace, unchanged, and changes nothing', async () => {
  await fc.assert(
    fc.asyncProperty(anyResource, fc.boolean(), async ([kindName, called, spec, given, strange], isByUs) => {
      store = new MemoryStore();
      const kind = kindCalled(kindName);
      const namespace = kind.isNamespaced ? { namespace: 'libnetwork' } : {};
      if (isByUs) {
        expect(await write(resource(kindName, called, spec, { ...namespace, labels: given }))).toEqual([
          expect.stringMatching(/ created$/),
        ]);
      } else {
        const key = `${resourcesPrefix(kind.plural)}${kind.isNamespaced ? 'libnetwork/' : ''}${called}`;
        const value = resource(
          kindName,
          called,
          { ...spec, ...strange },
          { ...namespace, labels: given, more: strange },
        );
        await put(store, key, value);
      }
      const { resources } = await listResources(store, kind);
      expect(resources.length).toBeGreaterThan(0);
      const before = (await store.list('/')).entries;
      for (const text of [
        formatYaml({ kind: `${kindName}List`, items: resources.map(({ document }) => printable(document)) }),
        formatJson(
          resources.map(({ document }) => printable(document)),
          2,
        ),
      ])
        for (const verb of ['apply', 'replace'] as const)
          expect(await write(text, verb)).toEqual(
            resources.map(({ document }) => `${kindName} ${document.name} unchanged`),
          );
      expect((await store.list('/')).entries).toEqual(before);
    }),
    { numRuns: 150 },
  );
}, 60_000);

it('a resource made by a file is found again by its own name, in every kind', async () => {
  await fc.assert(
    fc.asyncProperty(anyResource, async ([kindName, called, spec]) => {
      store = new MemoryStore();
      await write(resource(kindName, called, spec));
      const kind = kindCalled(kindName);
      const found = await getResource(store, kind, kind.isNamespaced ? 'libnetwork' : undefined, called);
      expect(found?.document.name).toBe(called);
      expect(found?.document.spec).toMatchObject(objectOrEmpty(parseJson(formatJson(spec))));
    }),
    { numRuns: 100 },
  );
});

const SAMPLE = `apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: a, labels: &l {x: y}, annotations: *l}
spec:
  order: 10
  selector: role == "db"
  ingress:
  - {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8]}, destination: {ports: [80, "1:2"]}}
---
{"kind": "IPPool", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "b"}, "spec": {"cidr": "10.0.0.0/16", "blockSize": 26}}
`;

it('whatever a file holds, it is refused with its line, or read: nothing else is thrown', () => {
  const at = fc.integer({ min: 0, max: SAMPLE.length });
  const edit = fc.tuple(at, fc.nat(12), fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('*l', '&l ', '- ', '\n', '\n  ', '{', ']', ': ', '"', '__proto__: 1', '1e999', '~'))); // prettier-ignore
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
      let text = SAMPLE;
      for (const [from, length, by] of edits) text = text.slice(0, from) + by + text.slice(from + length);
      let lines: string[];
      try {
        lines = readResources(text, 'f', 'libnetwork').flatMap(({ problems, message }) =>
          problems.map(message),
        );
      } catch (error) {
        expect(error).toBeInstanceOf(RequestError);
        lines = [String(error instanceof Error ? error.message : error)];
      }
      for (const line of lines) expect(line).toMatch(/^f:\d+: \S/);
    }),
    { numRuns: 500 },
  );
});
