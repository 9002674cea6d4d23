import { expect, it } from 'vitest';
import { Elsewhere } from '../../src/policy/elsewhere.js';

it('addresses of other hosts are remembered, the last of them, however many come', () => {
  const elsewhere = new Elsewhere(3);
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.1', '10.0.0.4']) elsewhere.note(address);
  expect([...elsewhere.all].sort()).toEqual(['10.0.0.1', '10.0.0.3', '10.0.0.4']);
});
