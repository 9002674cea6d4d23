import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/ipam/cidr.js';
import { formatPoolId, parsePoolId } from '../../src/plugin/pool-id.js';
import type { PoolChoice } from '../../src/plugin/pool-id.js';
import { PoolRequests } from '../../src/plugin/pool-requests.js';

const none = () => undefined;
const cidr = (text: string) => parseCidr(text) ?? { family: 4 as const, base: 0n, length: 0 };

describe('a PoolID', () => {
  it.each<PoolChoice>([
    { family: 4 },
    { family: 6 },
    { family: 4, subnet: cidr('192.0.2.0/24') },
    { family: 4, subnet: cidr('192.0.2.0/24'), range: cidr('192.0.2.128/28') },
    { family: 6, subnet: cidr('fd80:1::/64') },
    { family: 4, pools: ['a', 'b-c.d'] },
    { family: 6, pools: ['six'] },
  ])('says everything that is needed later: %o', choice =>
    expect(parsePoolId(formatPoolId(choice), none)).toEqual(choice),
  );

  it('of the old plugin is a pool name, or its default', () => {
    expect(parsePoolId('pool1', name => (name === 'pool1' ? cidr('10.0.0.0/16') : undefined))).toEqual({
      family: 4,
      subnet: cidr('10.0.0.0/16'),
    });
    expect(parsePoolId('CalicoPoolIPv4', none)).toEqual({ family: 4 });
  });

  it('of a later version may say more', () => {
    expect(parsePoolId('calico:v1:10.0.0.0/8?colour=blue', none)).toEqual({
      family: 4,
      subnet: cidr('10.0.0.0/8'),
    });
  });

  it('that is none is refused, never guessed', () => {
    fc.assert(
      fc.property(fc.string(), text => {
        fc.pre(!['CalicoPoolIPv4', 'CalicoPoolIPv6'].includes(text));
        expect(() => parsePoolId(text, none)).toThrow('PoolID');
      }),
    );
  });
});

describe('a loop of RequestPool', () => {
  it('is ended with a hint, but thirty networks made at once are none', () => {
    let time = 0;
    const loop = new PoolRequests(() => (time += 1));
    for (let i = 0; i < 1000; i += 1) {
      loop.requested({ family: 4 });
      if (i >= 30) loop.settled([4]);
    }
    const looping = () => {
      for (let i = 0; i < 1000; i += 1) loop.requested({ family: 4 });
    };
    expect(looping).toThrow('--subnet');
    expect(() => loop.requested({ family: 6 })).not.toThrow();
    time += 11_000;
    expect(() => loop.requested({ family: 4 })).not.toThrow();
  });
});
