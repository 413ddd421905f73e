/**
 * Makes a handler of the program's own harmless: whatever it throws or rejects with would otherwise end the relay,
 * or the process.
 */
export function safely<Event>(
  handler: (event: Event) => unknown,
  onFailure: (error: unknown) => void = () => undefined,
): (event: Event) => void {
  return (event) => {
    try {
      const outcome = handler(event);
      if (outcome instanceof Promise) outcome.catch(onFailure);
    } catch (error) {
      onFailure(error);
    }
  };
}
