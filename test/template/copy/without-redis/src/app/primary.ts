import type { OpenPrimary } from '../contract.ts';

/** Nothing lives in the primary process. */
export const openPrimary: OpenPrimary = () => () => {};
