/** A message to be sent. A field that is left out has its default. */
export type Sparse<Message> = Message extends Buffer | string | number | boolean | null
  ? Message
  : Message extends readonly (infer Item)[]
    ? readonly Sparse<Item>[]
    : { readonly [Field in keyof Message]?: Sparse<Message[Field]> };
