/** What Vite makes of imports that are no scripts. */

declare module "*.css";
