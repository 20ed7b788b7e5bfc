/** Text and type of the metrics page. */
export interface MetricsPage {
  readonly contentType: string;
  readonly text: string;
}
