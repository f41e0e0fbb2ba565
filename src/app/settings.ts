import type { Values } from '../contract.ts';
import { storeSettings } from './store-settings.ts';

/**
 * Your environment variables, each with its `name`, its `default` as it is written in the environment (undefined: the
 * value may be absent) and its `meaning`. `parse` gets the text and throws an error that says what would be right. A
 * `secret` value is never shown.
 */
export const appSettings = { ...storeSettings };

export type AppConfig = Values<typeof appSettings>;
