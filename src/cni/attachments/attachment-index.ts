import type { AttachedRecord, AttachmentRecord, AttachmentStore, ReadyRecord } from './attachment-store.ts';

/** Every namespace of ours: the records on disk, read once, and the set of those to be removed. */
export class AttachmentIndex {
  readonly #store: AttachmentStore;
  readonly #records = new Map<string, AttachmentRecord>();
  /** Container id to record id. */
  readonly #byContainer = new Map<string, string>();
  readonly #discarded = new Set<string>();
  /** How many records there are on each bridge. */
  readonly #bySegment = new Map<number, number>();
  #loaded = false;

  constructor(store: AttachmentStore) {
    this.#store = store;
  }

  /** Reads the records of an earlier run, once. */
  async load(): Promise<void> {
    if (this.#loaded) {
      return;
    }
    const records = await this.#store.load();
    // Another caller may have been quicker.
    if (this.#loaded) {
      return;
    }
    this.#loaded = true;
    for (const record of records) {
      this.#keep(record);
      if (record.state === 'Making') {
        this.#discarded.add(record.id);
      }
    }
  }

  /** How many there are, on one bridge or on all. */
  count(segment?: number): number {
    return segment === undefined ? this.#records.size : (this.#bySegment.get(segment) ?? 0);
  }

  get(id: string): AttachmentRecord | undefined {
    return this.#records.get(id);
  }

  has(id: string): boolean {
    return this.#records.has(id);
  }

  records(): readonly AttachmentRecord[] {
    return [...this.#records.values()];
  }

  /** Numbers of the bridges that records are on. */
  segments(): readonly number[] {
    return [...this.#bySegment.keys()];
  }

  /** Id of the record of a container, also when its removal has begun. */
  idOf(containerId: string): string | undefined {
    return this.#byContainer.get(containerId);
  }

  /** The record of a container, also when its removal has begun. */
  recordOf(containerId: string): AttachedRecord | undefined {
    const record = this.#records.get(this.#byContainer.get(containerId) ?? '');
    return record?.state === 'Attached' ? record : undefined;
  }

  /** The attachment that a container can go on with. */
  usableBy(containerId: string): AttachedRecord | undefined {
    const record = this.recordOf(containerId);
    return record === undefined || this.#discarded.has(record.id) ? undefined : record;
  }

  /** Every attachment, also those whose removal has begun. */
  attached(): readonly AttachedRecord[] {
    return [...this.#byContainer.keys()].flatMap((containerId) => this.recordOf(containerId) ?? []);
  }

  /** Records a namespace before it is made. */
  async begin(id: string, segment: number): Promise<void> {
    const record: AttachmentRecord = { id, state: 'Making', segment };
    this.#keep(record);
    await this.#store.write(record);
  }

  /** Records that a namespace is ready, or its container. */
  async write(record: ReadyRecord | AttachedRecord): Promise<void> {
    await this.#store.write(record);
    this.#keep(record);
  }

  /**
   * Notes that a namespace is ready that a container waits for. The record of the container follows at once: until then
   * the one on disk still says that the namespace is being made.
   */
  noteReady(record: ReadyRecord): void {
    this.#keep(record);
  }

  /** Marks a namespace for removal: from now on no container can be given it. */
  discard(id: string): void {
    this.#discarded.add(id);
    const record = this.#records.get(id);
    if (record?.state !== 'Attached' || this.#byContainer.get(record.containerId) !== id) {
      return;
    }
    // A crash between the record of a new attachment and the removal of the one before leaves both.
    const other = this.records().find(
      (each) => each.state === 'Attached' && each.containerId === record.containerId && !this.#discarded.has(each.id),
    );
    if (other !== undefined) {
      this.#byContainer.set(record.containerId, other.id);
    }
  }

  isDiscarded(id: string): boolean {
    return this.#discarded.has(id);
  }

  /** Ids of namespaces that are still to be removed. */
  discarded(): readonly string[] {
    return [...this.#discarded];
  }

  /** Marks a record on disk alone: after a crash the namespace must not count as a working one. */
  async markUnfinished(record: AttachmentRecord): Promise<void> {
    await this.#store.write({ id: record.id, state: 'Making', segment: record.segment });
  }

  async erase(id: string): Promise<void> {
    await this.#store.remove(id);
    const record = this.#records.get(id);
    this.#records.delete(id);
    this.#discarded.delete(id);
    if (record !== undefined) {
      this.#count(record.segment, -1);
    }
    if (record?.state === 'Attached' && this.#byContainer.get(record.containerId) === id) {
      this.#byContainer.delete(record.containerId);
    }
  }

  #keep(record: AttachmentRecord): void {
    if (!this.#records.has(record.id)) {
      this.#count(record.segment, 1);
    }
    this.#records.set(record.id, record);
    if (record.state === 'Attached') {
      this.#byContainer.set(record.containerId, record.id);
    }
  }

  #count(segment: number, change: number): void {
    const count = (this.#bySegment.get(segment) ?? 0) + change;
    if (count === 0) {
      this.#bySegment.delete(segment);
    } else {
      this.#bySegment.set(segment, count);
    }
  }
}
