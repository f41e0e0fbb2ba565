import type { OpenPrimary } from './service.ts';

/** Nothing lives in the primary process. */
export const openPrimary: OpenPrimary = () => () => {};
