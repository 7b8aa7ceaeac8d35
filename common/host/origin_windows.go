package host

import "golang.org/x/sys/windows/registry"

func machine() string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Cryptography`, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return ""
	}
	defer k.Close()
	guid, _, _ := k.GetStringValue("MachineGuid")
	return guid
}
