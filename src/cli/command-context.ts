/** What a command is given by the program around it. */
export interface CommandContext {
  readonly signal: AbortSignal;
  /** Where the text for the person goes. Default: standard output. */
  readonly write?: (text: string) => void;
}
