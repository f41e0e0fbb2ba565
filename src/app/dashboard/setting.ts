/** The plots tell what a stranger need not know, so that they are to be switched on. */
export const dashboardSetting = {
  name: 'DASHBOARD',
  default: 'false',
  meaning: '`true`: plots at `/dashboard`, for everybody who can reach the service',
  parse(text: string): boolean {
    if (text !== 'true' && text !== 'false') throw new Error('true or false');
    return text === 'true';
  },
};
