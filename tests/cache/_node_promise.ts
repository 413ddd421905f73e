/**
 * What the suite uses and Node 20 lacks. It is bound to the suite alone: the package under test meets
 * a Node without it.
 *
 * @module
 */
import { deferred } from "../../cache/deferred.ts";

export { deferred as withResolvers };
