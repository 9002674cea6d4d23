import { execFile } from 'node:child_process';
import type { Logger } from 'pino';
import { reason } from './errors.js';
import { PATH } from './host/run.js';
import type { Environment } from './setting-kinds.js';

/** Milliseconds for one message. */
const TIMEOUT = 5_000;

/** What started us and wants to hear how we are: systemd with `Type=notify`, or nobody. */
export interface ServiceManager {
  /** Says that Docker's calls are answered, and from then on, where it is asked for, that we live. */
  ready(status: string): Promise<void>;
  /** Says that we are about to end. */
  stopping(): Promise<void>;
}

/**
 * Speaks sd_notify(3). Its socket is a unix datagram one, which Node cannot write to, so systemd's own program does it:
 * it is there wherever NOTIFY_SOCKET is set. It runs once for each message and waits until systemd has read it, so systemd
 * still knows whose it is (`NotifyAccess=all`; a message from a process that has gone would be thrown away). A message that
 * cannot be sent is logged and else ignored: systemd then says so, too. Where NOTIFY_SOCKET is not set nothing is done.
 *
 * @param env NOTIFY_SOCKET; WATCHDOG_USEC and WATCHDOG_PID as in sd_watchdog_enabled(3)
 */
export function serviceManager(env: Environment, log: Logger): ServiceManager {
  const socket = env.NOTIFY_SOCKET ?? '';
  if (socket === '') return { ready: () => Promise.resolve(), stopping: () => Promise.resolve() };
  const send = (...words: string[]) => notify(socket, words, log);
  let watchdog: NodeJS.Timeout | undefined;
  return {
    async ready(status) {
      await send('--ready', `--status=${status}`);
      const interval = watchdogInterval(env);
      // A timer of the event loop: a loop that hangs answers no call and sends no sign of life.
      if (interval !== undefined) watchdog = setInterval(() => void send('WATCHDOG=1'), interval).unref();
    },
    async stopping() {
      clearInterval(watchdog);
      await send('STOPPING=1');
    },
  };
}

/** Milliseconds between signs of life: a third of what systemd waits. Undefined where it does not wait for any. */
export function watchdogInterval(env: Environment, pid = process.pid): number | undefined {
  const microseconds = Number(env.WATCHDOG_USEC ?? 0);
  const isForUs = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(pid);
  return isForUs && microseconds > 0 ? microseconds / 3_000 : undefined;
}

function notify(socket: string, words: readonly string[], log: Logger): Promise<void> {
  const options = { timeout: TIMEOUT, env: { PATH, NOTIFY_SOCKET: socket } };
  return new Promise(resolve => {
    execFile('systemd-notify', [...words], options, (error, _stdout, stderr) => {
      if (error)
        log.warn(
          { reason: stderr.trim() || reason(error) },
          'cannot tell systemd how we are; it waits for that where the unit says Type=notify',
        );
      resolve();
    });
  });
}
