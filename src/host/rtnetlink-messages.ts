import { AttrStream } from 'netlink';

/**
 * What all messages to rtnetlink have in common (linux/rtnetlink.h); the messages themselves are in `link-messages`,
 * `address-messages`, `route-messages` and `vxlan-messages`. Objects are decoded there, attribute by attribute, and not by
 * the package's complete decoders: those throw on an attribute whose length a newer kernel changed. Numbers are in the
 * machine's byte order, which is little-endian wherever the package has a binding.
 */

/** Message types. */
export const RTM = {
  newLink: 16,
  delLink: 17,
  getLink: 18,
  newAddr: 20,
  getAddr: 22,
  newRoute: 24,
  delRoute: 25,
  getRoute: 26,
};
/** rtm_scope. Link: the destination is on this interface, there is no next hop to resolve; IPv6 knows no scopes. */
export const SCOPE = { universe: 0, link: 253, host: 254, any: 255 };

/** A message body that begins with a struct; zeros ask a dump for everything. */
export function withHeader(header: Buffer): AttrStream {
  const body = new AttrStream();
  body.emit(header);
  return body;
}
