export const appSettings = {
  greeting: {
    name: 'GREETING',
    default: 'hello',
    meaning: 'what GET / answers',
    parse(text: string): string {
      if (!/^\p{L}+$/u.test(text)) throw new Error('one word');
      return text;
    },
  },
};
