import { describe, expect, it } from 'vitest';
import { parseSelector } from '../../src/model/selector.js';

const LABELS = { role: 'db', env: 'prod-eu', 'a.b/c': '' };

describe('a selector', () => {
  it.each([
    ['', true],
    ['all()', true],
    ['!all()', false],
    ['has(role)', true],
    ['has(a.b/c)', true],
    ['has(toString)', false],
    ['role == "db"', true],
    ["role == 'web'", false],
    ['role != "web"', true],
    ['absent != "x"', true],
    ['role in {"web", "db"}', true],
    ['role in {}', false],
    ['absent not in {"x"}', true],
    ['role not in {"db"}', false],
    ['env contains "od-"', true],
    ['env starts with "prod"', true],
    ['env ends with "us"', false],
    ['has(x) || has(role) && !has(y)', true],
    ['(has(x) || has(role)) && has(y)', false],
    ['!(role == "db")', false],
    ['!!has(role)', true],
    ['global()', true],
  ])('%s is %s', (text, expected) => expect(parseSelector(text).matches(LABELS)).toBe(expected));

  it.each([
    'role',
    'role ==',
    'role = "x"',
    'has(',
    'has()',
    '== "x"',
    'role == "x" role',
    'a & b',
    'nothing()',
    'role in "x"',
    '(has(a)',
    'a starts "x"',
  ])('refuses %s and says where', text => expect(() => parseSelector(text)).toThrow(/^selector/));
});
