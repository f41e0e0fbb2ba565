import type { Values } from '../contract.ts';

export const appSettings = {
  precision: {
    name: 'PRECISION',
    default: '1',
    meaning: 'digits after the point of a temperature, 0 to 9',
    parse(text: string): number {
      if (!/^\d$/.test(text)) throw new Error('one digit');
      return Number(text);
    },
  },
};

export type AppConfig = Values<typeof appSettings>;
