/**
 * What can go wrong, one class per meaning. The plugin server is the one place that turns an error into an
 * answer: `status` is the HTTP status, the message is shown to a person at a docker prompt. It says what is wrong
 * and what to do about it.
 */
export abstract class CalicoError extends Error {
  /** HTTP status of the answer. Never 404: dockerd takes that for "method not implemented". */
  abstract readonly status: number;
  override get name(): string {
    return this.constructor.name;
  }
}

/** The request cannot work as it stands: a bad value, an unknown option, something that does not exist. */
export class RequestError extends CalicoError {
  readonly status = 400;
}

/** The address is in use. */
export class AddressInUseError extends CalicoError {
  readonly status = 409;
}

/** The port of the host is in use. */
export class PortInUseError extends CalicoError {
  readonly status = 409;
}

/** No address is left where the request allows one. */
export class NoAddressError extends CalicoError {
  readonly status = 409;
}

/** What the request builds on was changed or freed by somebody else meanwhile. */
export class ConflictError extends CalicoError {
  readonly status = 409;
}

/** etcd did not answer in time, refused us, or broke the connection. The same call can work later. */
export class DatastoreError extends CalicoError {
  readonly status = 503;
}

/** Programming the host's kernel failed: a command or a netlink request was refused. */
export class HostError extends CalicoError {
  readonly status = 500;
}

/** The text of anything thrown, for a log line or a message that embeds it. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
