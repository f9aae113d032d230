/** A mistake in how the command was called, or in a file that it was given. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
