import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatJson, parseJson } from '../../src/model/json.js';

describe('lossless JSON', () => {
  it('keeps integers beyond 2^53 exact, as bigint', () => {
    const text =
      '{"sequenceNumber":1692000000123456789,"small":42,"list":[18446744073709551615,-9223372036854775808]}';
    expect(parseJson(text)).toEqual({
      sequenceNumber: 1692000000123456789n,
      small: 42,
      list: [18446744073709551615n, -9223372036854775808n],
    });
    expect(formatJson(parseJson(text))).toBe(text);
  });

  it('leaves digits inside strings and keys alone', () => {
    const text = '{"1692000000123456789":"1692000000123456789,","a":"x\\"1692000000123456789]"}';
    expect(formatJson(parseJson(text))).toBe(text);
  });

  it('round-trips every JSON value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.bigInt({ min: 2n ** 53n + 1n, max: 2n ** 64n - 1n }), (value, big) => {
        const text = JSON.stringify({ value }).replace('}', `,"big":${big}}`);
        fc.pre(text.startsWith('{"value":') && !JSON.stringify(value).includes('}'));
        expect(formatJson(parseJson(text))).toBe(text);
      }),
    );
  });
});
