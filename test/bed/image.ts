import { busyboxTar } from '../../src/setup/image.mjs';

let tar: Promise<Buffer> | undefined;

/** The busybox image as a tar, made once per test process. */
export function imageTar(): Promise<Buffer> {
  tar ??= busyboxTar();
  return tar;
}
