/** This service needs nothing beside it. */
export async function startBacking(): Promise<Record<string, string>> {
  return {};
}
