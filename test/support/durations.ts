/** Milliseconds of a duration as nginx, Docker and Compose write it: 200ms, 0.5s, 30s. */
export function parseDuration(text: string | undefined): number {
  const [, value, unit] = /^([\d.]+)(ms|s)$/.exec(text ?? '') ?? [];
  if (!value) throw new Error(`${text} is no duration`);
  return Number(value) * (unit === 'ms' ? 1 : 1_000);
}
