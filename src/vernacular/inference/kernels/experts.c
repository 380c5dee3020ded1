int experts(void){return 0;}
